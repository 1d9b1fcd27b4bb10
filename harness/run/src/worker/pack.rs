//! Packing ternary codes.

use trit_kernel::{AlignedBuf, Codes, Cpu, LayoutId, Packed};
use trit_measure::{Clock, MonotonicClock};

use super::weights::sides;
use super::{Done, Fault, Subject};
use crate::inputs;
use crate::protocol::{Answer, INPUT_SETS, Opened, Task};

/// Packs one matrix again and again, another one each time.
pub(super) struct Pack {
    pool: rayon::ThreadPool,
    layout: LayoutId,
    isa: &'static str,
    rows: usize,
    k: usize,
    sets: Vec<Vec<i8>>,
    outs: Vec<AlignedBuf>,
    cursor: usize,
    used: Vec<usize>,
}

impl Pack {
    pub(super) fn open(task: &Task) -> Result<Self, Fault> {
        let entry = trit_kernels::find(&task.kernel).map_err(Fault::unsupported)?;
        (entry.open)(Cpu::uncapped()).map_err(Fault::unsupported)?;
        let (rows, k) = sides(task)?;
        let layout = entry.info.accepts[0];
        let bytes = layout
            .matrix_bytes(rows, k)
            .ok_or_else(|| Fault::over_limit(format!("{rows}x{k} does not fit in memory")))?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(usize::try_from(task.threads).unwrap_or(1).max(1))
            .start_handler(super::untie)
            .build()
            .map_err(Fault::failed)?;
        Ok(Self {
            pool,
            layout,
            isa: entry.info.isa.name(),
            rows,
            k,
            sets: (0..INPUT_SETS)
                .map(|set| inputs::codes(task.seed, set, rows, k))
                .collect(),
            outs: (0..INPUT_SETS).map(|_| AlignedBuf::zeroed(bytes)).collect(),
            cursor: 0,
            used: Vec::new(),
        })
    }

    fn call(&mut self) -> Result<(), Fault> {
        let set = self.cursor;
        self.cursor = (set + 1) % INPUT_SETS;
        let codes = Codes::new(&self.sets[set], self.rows, self.k).map_err(Fault::failed)?;
        let (layout, out) = (self.layout, &mut self.outs[set]);
        self.pool
            .install(|| Packed::pack_into(codes, layout, out.bytes_mut()));
        Ok(())
    }
}

impl Subject for Pack {
    fn opened(&self) -> Opened {
        Opened {
            layout: self.layout.name().to_owned(),
            weight_bits: Some(self.layout.spec().weight_bits),
            isa: self.isa.to_owned(),
            ..Opened::default()
        }
    }

    fn warm_up(&mut self, calls: u64) -> Result<(), Fault> {
        (0..calls).try_for_each(|_| self.call())
    }

    fn poison(&mut self) {
        for out in &mut self.outs {
            out.bytes_mut().fill(0xff);
        }
    }

    fn slice(&mut self, iterations: u64) -> Result<Done, Fault> {
        self.used = (0..iterations.min(INPUT_SETS as u64) as usize)
            .map(|call| (self.cursor + call) % INPUT_SETS)
            .collect();
        let start = MonotonicClock.now_ns();
        for _ in 0..iterations {
            self.call()?;
        }
        Ok(Done {
            calls: iterations,
            time_ns: MonotonicClock.now_ns() - start,
            ..Done::default()
        })
    }

    fn answers(&mut self) -> Result<Vec<Answer>, Fault> {
        Ok(self
            .used
            .iter()
            .map(|set| {
                let mut codes = vec![0i8; self.rows * self.k];
                for (row, out) in codes.chunks_exact_mut(self.k).enumerate() {
                    self.layout
                        .unpack_row(self.outs[*set].bytes(), self.k, row, out);
                }
                answer(*set, &codes)
            })
            .collect())
    }
}

fn answer(set: usize, codes: &[i8]) -> Answer {
    let bytes: Vec<u8> = codes.iter().map(|code| *code as u8).collect();
    Answer {
        set: set as u64,
        digest: inputs::digest_bytes(&bytes),
    }
}

/// What unpacking has to give: the codes themselves.
pub(super) fn reference(task: &Task) -> Result<Vec<Answer>, Fault> {
    let (rows, k) = sides(task)?;
    Ok((0..INPUT_SETS)
        .map(|set| answer(set, &inputs::codes(task.seed, set, rows, k)))
        .collect())
}
