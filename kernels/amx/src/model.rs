//! The tile registers in plain Rust, so that the blocking is tested where there is no AMX. It follows the operation sections and the
//! fault conditions of Intel's Software Developer's Manual, volume 2, for `LDTILECFG`, `TILEZERO`, `TILELOADD`, `TILESTORED` and
//! `TDPBSUD`; a fault is a panic.

use trit_kernel::{
    Accuracy, Cpu, Family, GemmArgs, Isa, Kernel, KernelEntry, KernelInfo, LayoutId, Unavailable,
};

use crate::gemm::{self, Machine, Tiled};
use crate::tiles::{
    BLOCK_BYTES, Block, Config, Planes, REGISTERS, ROW_BYTES, TILE_BYTES, TILE_ROWS, Tile, Tiles,
};

/// The kernel on the model: for tests, and named so.
pub(crate) const MODEL_ENTRY: KernelEntry = KernelEntry { info: &INFO, open };

static INFO: KernelInfo = KernelInfo {
    id: "w2a8-tile-scalar-model",
    family: Family::Amx,
    isa: Isa::Scalar,
    accepts: &[LayoutId::R16],
    accuracy: Accuracy::Exact,
    min_tokens: 16,
    summary: "the blocking of w2a8-tile-amx on a model of the tile registers, for tests",
};

struct Model;

#[expect(clippy::unnecessary_wraps, reason = "the type of an entry")]
fn open(_cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    Ok(Box::new(Tiled(Model)))
}

impl Machine for Model {
    const INFO: &'static KernelInfo = &INFO;

    fn multiply(&self, config: &Config, args: GemmArgs<'_>) {
        gemm::run(&mut Registers::configured(config), args);
    }
}

/// One register: the shape it is configured with, and its whole 16 rows of 64 bytes.
#[derive(Clone, Copy)]
struct Register {
    rows: usize,
    row_bytes: usize,
    data: [[u8; ROW_BYTES]; TILE_ROWS],
}

impl Register {
    fn dword(&self, row: usize, column: usize) -> [u8; 4] {
        self.data[row].as_chunks().0[column]
    }
}

/// The registers of a thread.
pub(crate) struct Registers([Register; REGISTERS]);

impl Registers {
    /// `ldtilecfg`, with the faults of palette 1; all registers become zero.
    pub(crate) fn configured(Config(bytes): &Config) -> Self {
        assert_eq!(bytes[0], 1, "#GP: palette");
        assert_eq!(
            bytes[1], 0,
            "a start row restarts a load, and there is none"
        );
        assert!(bytes[2..16].iter().all(|b| *b == 0), "#GP: reserved bytes");
        let shape = |register: usize| {
            let at = 16 + 2 * register;
            let row_bytes = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            (usize::from(bytes[48 + register]), usize::from(row_bytes))
        };
        assert!(
            (REGISTERS..16).all(|register| shape(register) == (0, 0)),
            "#GP: palette 1 has 8 registers"
        );
        Self(std::array::from_fn(|register| {
            let (rows, row_bytes) = shape(register);
            assert!(rows <= TILE_ROWS, "#GP: {rows} rows");
            assert!(row_bytes <= ROW_BYTES, "#GP: {row_bytes} bytes a row");
            assert_eq!(rows == 0, row_bytes == 0, "#GP: half a shape");
            let data = [[0; ROW_BYTES]; TILE_ROWS];
            Register {
                rows,
                row_bytes,
                data,
            }
        }))
    }

    fn valid<const T: usize>(&self) -> &Register {
        assert!(T < REGISTERS, "no encoding for tmm{T}");
        let register = &self.0[T];
        assert!(register.rows > 0, "#UD: tmm{T} is not configured");
        assert!(
            register.row_bytes.is_multiple_of(4),
            "#UD: tmm{T} has torn dwords"
        );
        register
    }
}

impl Tiles for Registers {
    fn zero<const T: usize>(&mut self) {
        self.valid::<T>();
        self.0[T].data = [[0; ROW_BYTES]; TILE_ROWS];
    }

    fn load<const T: usize>(&mut self, from: &Tile) {
        let Register {
            rows, row_bytes, ..
        } = *self.valid::<T>();
        // What the shape leaves out becomes zero.
        let mut data = [[0; ROW_BYTES]; TILE_ROWS];
        for (row, from) in data
            .iter_mut()
            .zip(from.as_chunks::<ROW_BYTES>().0)
            .take(rows)
        {
            row[..row_bytes].copy_from_slice(&from[..row_bytes]);
        }
        self.0[T].data = data;
    }

    fn store<const T: usize>(&self, to: &mut Tile) {
        let register = self.valid::<T>();
        let lines = to.as_chunks_mut::<ROW_BYTES>().0.iter_mut();
        for (row, to) in register.data.iter().zip(lines).take(register.rows) {
            to[..register.row_bytes].copy_from_slice(&row[..register.row_bytes]);
        }
    }

    fn dot<const C: usize, const A: usize, const B: usize>(&mut self) {
        assert!(
            C != A && C != B && A != B,
            "#UD: a register is named twice: {C} {A} {B}"
        );
        let (a, b, c) = (*self.valid::<A>(), *self.valid::<B>(), *self.valid::<C>());
        assert_eq!(c.row_bytes, b.row_bytes, "#UD: columns of the sums");
        assert_eq!(c.rows, a.rows, "#UD: rows of the sums");
        assert_eq!(a.row_bytes / 4, b.rows, "#UD: inner dimension");
        let mut data = [[0; ROW_BYTES]; TILE_ROWS];
        for m in 0..a.rows {
            for n in 0..b.row_bytes / 4 {
                let mut sum = i32::from_le_bytes(c.dword(m, n));
                for k in 0..b.rows {
                    for (signed, unsigned) in a.dword(m, k).into_iter().zip(b.dword(k, n)) {
                        let product = i32::from(signed as i8) * i32::from(unsigned);
                        sum = sum.wrapping_add(product);
                    }
                }
                data[m].as_chunks_mut().0[n] = sum.to_le_bytes();
            }
        }
        self.0[C].data = data;
    }

    fn unpack(block: &Block, planes: &mut Planes) {
        for (plane, planes) in planes.chunks_exact_mut(BLOCK_BYTES).enumerate() {
            for (code, byte) in planes.iter_mut().zip(block) {
                *code = (byte >> (2 * plane)) & 3;
            }
        }
    }
}

mod tests {
    use trit_conformance::Rng;

    use super::*;

    fn random(rng: &mut Rng) -> Tile {
        std::array::from_fn(|_| rng.next_u64() as u8)
    }

    #[test]
    fn a_product_by_hand() {
        let mut tiles = Registers::configured(&Config::new([16; 8]));
        let (mut a, mut b, mut c) = ([0; TILE_BYTES], [0; TILE_BYTES], [0; TILE_BYTES]);
        // Token 2, column 9 is -128; its weight in row 5 stands in row 9 / 4 of B, dword 5, byte 9 % 4.
        a[2 * ROW_BYTES + 9] = (-128i8) as u8;
        b[2 * ROW_BYTES + 4 * 5 + 1] = 255;
        let at = 2 * ROW_BYTES + 4 * 5;
        c[at..at + 4].copy_from_slice(&7i32.to_le_bytes());
        tiles.load::<0>(&c);
        tiles.load::<6>(&a);
        tiles.load::<4>(&b);
        tiles.dot::<0, 6, 4>();
        let mut got = [0; TILE_BYTES];
        tiles.store::<0>(&mut got);
        c[at..at + 4].copy_from_slice(&(7i32 - 128 * 255).to_le_bytes());
        assert_eq!(got, c);
    }

    #[test]
    fn rows_beyond_the_shape_are_neither_read_nor_written() {
        let mut rng = Rng::new(1);
        let (a, b, c) = (random(&mut rng), random(&mut rng), random(&mut rng));
        let rows = 5;
        let mut tiles = Registers::configured(&Config::new([rows, 16, 16, 16, 16, 16, rows, 16]));
        tiles.load::<0>(&c);
        tiles.load::<6>(&a);
        tiles.load::<4>(&b);
        tiles.dot::<0, 6, 4>();
        let poison = random(&mut rng);
        let mut got = poison;
        tiles.store::<0>(&mut got);
        let (inside, outside) = got.split_at(usize::from(rows) * ROW_BYTES);
        assert_eq!(outside, &poison[inside.len()..]);
        assert!(
            tiles.0[0].data[usize::from(rows)..]
                .iter()
                .all(|row| *row == [0; ROW_BYTES])
        );
        // The same rows of a product of full tiles.
        let mut full = Registers::configured(&Config::new([16; 8]));
        full.load::<0>(&c);
        full.load::<6>(&a);
        full.load::<4>(&b);
        full.dot::<0, 6, 4>();
        let mut want = [0; TILE_BYTES];
        full.store::<0>(&mut want);
        assert_eq!(inside, &want[..inside.len()]);
        assert_ne!(inside, &c[..inside.len()]);
    }

    #[test]
    fn a_row_is_zero_beyond_its_bytes() {
        let mut config = Config::new([3; 8]);
        config.0[16] = 8;
        let mut tiles = Registers::configured(&config);
        tiles.load::<0>(&[0xff; TILE_BYTES]);
        let mut want = [0; ROW_BYTES];
        want[..8].fill(0xff);
        assert_eq!(tiles.0[0].data[2], want);
        assert_eq!(tiles.0[0].data[3], [0; ROW_BYTES]);
    }

    /// What a configuration changed by `change` is refused with.
    fn refusal(change: impl FnOnce(&mut [u8; 64])) -> String {
        let mut config = Config::new([16; 8]);
        change(&mut config.0);
        let caught = std::panic::catch_unwind(|| Registers::configured(&config).0.len());
        let payload = caught.expect_err("the configuration is accepted");
        payload
            .downcast_ref::<String>()
            .cloned()
            .unwrap_or_else(|| {
                (*payload.downcast_ref::<&str>().expect("a panic has a text")).to_owned()
            })
    }

    #[test]
    fn configurations_outside_of_palette_1_fault() {
        assert!(refusal(|bytes| bytes[0] = 2).contains("palette"));
        assert!(refusal(|bytes| bytes[7] = 1).contains("reserved"));
        assert!(refusal(|bytes| bytes[16] = 65).contains("65 bytes"));
        assert!(refusal(|bytes| bytes[17] = 1).contains("320 bytes"));
        assert!(refusal(|bytes| bytes[48] = 17).contains("17 rows"));
        assert!(refusal(|bytes| bytes[48] = 0).contains("half a shape"));
        assert!(refusal(|bytes| bytes[32] = 64).contains("8 registers"));
        assert!(refusal(|bytes| bytes[56] = 1).contains("8 registers"));
    }

    #[test]
    #[should_panic(expected = "rows of the sums")]
    fn shapes_that_do_not_fit_fault() {
        let mut rows = [16; 8];
        rows[0] = 15;
        Registers::configured(&Config::new(rows)).dot::<0, 6, 4>();
    }

    #[test]
    #[should_panic(expected = "named twice")]
    fn one_register_in_two_places_faults() {
        Registers::configured(&Config::new([16; 8])).dot::<0, 4, 4>();
    }
}
