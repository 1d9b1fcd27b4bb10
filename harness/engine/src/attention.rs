//! Attention of a chunk of tokens: which thread goes through which part of the cache.

use smallvec::SmallVec;
use trit_measure::share;
use trit_ops::{Attention, QUERY_ROWS};

use crate::batch::Sequence;
use crate::file::Config;
use crate::forward::{COVERED, Parts, Place, Scratch, begun, place, qkv_width};
use crate::model::Engine;

/// One key head, and the tokens that share a walk through its cache: they follow each other in one sequence.
struct Piece<'a> {
    head: usize,
    /// The first token.
    token: usize,
    /// Where the outputs of each token go.
    outputs: Tokens<&'a mut [f32]>,
}

/// Something of each token of a piece.
type Tokens<T> = SmallVec<[T; QUERY_ROWS]>;

/// The most tokens of a piece: so many that the query heads of all of them fill the rows that attention takes at once.
fn piece_tokens(config: &Config) -> usize {
    let mut tokens = QUERY_ROWS;
    while tokens > 1 && (config.heads / config.kv_heads * tokens / 2).is_multiple_of(QUERY_ROWS) {
        tokens /= 2;
    }
    tokens
}

/// Floats that attention of up to `tokens` tokens needs in a thread.
pub(crate) fn scratch(config: &Config, tokens: usize, positions: usize) -> usize {
    let rows = config.heads / config.kv_heads * tokens.min(piece_tokens(config));
    Attention::scratch(rows, positions)
}

/// What a thread has of the pieces.
enum Pieces<'a> {
    /// Neighbours: key heads of one token, from this one on.
    Neighbours(usize, std::slice::ChunksExactMut<'a, f32>),
    /// Dealt out in turn.
    Dealt(Vec<Piece<'a>>),
}

/// Deals the outputs of several tokens, `run` of which go through a cache together, out to the threads in turn: early tokens, which
/// see less, are spread over all threads, and a thread goes head by head, so that the keys and values of one stay in the cache.
fn deal<'a>(config: &Config, run: usize, out: &'a mut [f32], threads: usize) -> Vec<Pieces<'a>> {
    let width = config.heads * config.head_dim;
    let mut heads: Vec<Vec<Piece<'a>>> = (0..config.kv_heads).map(|_| Vec::new()).collect();
    for (index, rows) in out.chunks_mut(run * width).enumerate() {
        for (head, pieces) in heads.iter_mut().enumerate() {
            let (token, outputs) = (index * run, Tokens::new());
            pieces.push(Piece {
                head,
                token,
                outputs,
            });
        }
        for row in rows.chunks_exact_mut(width) {
            let outputs = row.chunks_exact_mut(width / config.kv_heads);
            for (output, pieces) in outputs.zip(&mut heads) {
                pieces
                    .last_mut()
                    .expect("one was just put there")
                    .outputs
                    .push(output);
            }
        }
    }
    let mut dealt: Vec<Vec<Piece<'_>>> = (0..threads).map(|_| Vec::new()).collect();
    for (turn, piece) in heads.into_iter().flatten().enumerate() {
        dealt[turn % threads].push(piece);
    }
    dealt.into_iter().map(Pieces::Dealt).collect()
}

/// Causal attention, each token over the cache of its sequence: a key head and a few tokens are one piece of work.
pub(crate) fn attend(
    engine: &Engine,
    sequences: &[Sequence],
    call: Place,
    qkv: &[f32],
    out: &mut [f32],
    scratch: &mut [Scratch],
) {
    let Place { layer, timed } = call;
    let config = &engine.config;
    let (dim, kv_heads) = (config.head_dim, config.kv_heads);
    let group = config.heads / kv_heads * dim;
    let width = qkv_width(config);
    let threads = scratch.len();
    let scale = 1.0 / (dim as f32).sqrt();
    let mut parts: Parts<(Pieces<'_>, &mut Scratch)> = Parts::with_capacity(threads);
    if out.len() == kv_heads * group {
        let mut rest = out;
        for (thread, scratch) in scratch.iter_mut().enumerate() {
            let heads = share(kv_heads, 1, thread, threads);
            let mine = rest.split_off_mut(..heads.len() * group).expect(COVERED);
            let pieces = Pieces::Neighbours(heads.start, mine.chunks_exact_mut(group));
            parts.push((pieces, scratch));
        }
    } else {
        let run = match sequences {
            [_] => piece_tokens(config),
            _ => 1,
        };
        parts.extend(deal(config, run, out, threads).into_iter().zip(scratch));
    }
    let work = |token: usize, head: usize, outputs: &mut [&mut [f32]], scores: &mut [f32]| {
        let (sequence, position) = place(sequences, token);
        let (cache, last) = (&sequence.cache, position + outputs.len());
        let queries: Tokens<&[f32]> = (token..token + outputs.len())
            .map(|token| &qkv[token * width + head * group..][..group])
            .collect();
        let call = Attention {
            queries: &queries,
            positions: position + 1,
            keys: cache.read(layer, false, head, last),
            values: cache.read(layer, true, head, last),
            dim,
            scale,
        };
        engine.ops.attention(call, scores, outputs);
    };
    engine.team.run_parts(&mut parts, |_, (pieces, scratch)| {
        let start = begun(timed);
        let scores = &mut scratch.scores;
        match pieces {
            Pieces::Neighbours(first, outputs) => {
                for (head, out) in (*first..).zip(outputs) {
                    work(0, head, &mut [out], scores);
                }
            }
            Pieces::Dealt(pieces) => {
                for piece in pieces {
                    work(piece.token, piece.head, &mut piece.outputs, scores);
                }
            }
        }
        scratch.worked_since(start);
    });
}
