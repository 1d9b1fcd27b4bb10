//! What the multiplication asks of tile registers.

/// Most rows of a tile in palette 1.
pub(crate) const TILE_ROWS: usize = 16;
/// Most bytes of a row of a tile in palette 1.
pub(crate) const ROW_BYTES: usize = 64;
/// Most bytes of a tile.
pub(crate) const TILE_BYTES: usize = TILE_ROWS * ROW_BYTES;
/// Registers of palette 1.
pub(crate) const REGISTERS: usize = 8;
/// Bytes of a packed block: 16 weight rows x 16 columns.
pub(crate) const BLOCK_BYTES: usize = 64;
/// Bytes of an unpacked block: four rows of a tile of codes.
pub(crate) const UNPACKED_BYTES: usize = 4 * BLOCK_BYTES;

/// A tile in memory, row after row. A register with fewer than 16 rows uses the first of them.
pub(crate) type Tile = [u8; TILE_BYTES];
/// A block of [`trit_kernel::LayoutId::R16`].
pub(crate) type Block = [u8; BLOCK_BYTES];
/// The four planes of a block, one after the other.
pub(crate) type Planes = [u8; UNPACKED_BYTES];

/// The operand of `ldtilecfg`: byte 0 is the palette, byte 1 the row to restart at, the bytes 16 to 47 hold the bytes of a row of
/// each register as 16-bit numbers, and the bytes 48 to 63 the rows of each register.
#[repr(C, align(64))]
pub(crate) struct Config(pub(crate) [u8; 64]);

impl Config {
    /// Palette 1, every register with rows of 64 bytes: `rows[t]` of them in register `t`, 1 to 16.
    pub(crate) fn new(rows: [u8; REGISTERS]) -> Self {
        assert!(
            rows.iter().all(|n| (1..=TILE_ROWS as u8).contains(n)),
            "a tile has 1 to 16 rows"
        );
        let mut bytes = [0; 64];
        bytes[0] = 1;
        for (register, rows) in rows.into_iter().enumerate() {
            // Little end first; 64 fits the low byte.
            bytes[16 + 2 * register] = ROW_BYTES as u8;
            bytes[48 + register] = rows;
        }
        Self(bytes)
    }
}

/// Eight configured registers `tmm0` to `tmm7`. A const parameter names a register.
pub(crate) trait Tiles {
    /// Register `T` becomes zero: `tilezero`.
    fn zero<const T: usize>(&mut self);

    /// The rows of register `T` become the first rows of `from`: `tileloadd`.
    fn load<const T: usize>(&mut self, from: &Tile);

    /// The first rows of `to` become the rows of register `T`, the rest of `to` stays: `tilestored`.
    fn store<const T: usize>(&self, to: &mut Tile);

    /// `C[m][n] += Σ A[m][4r + i] · B[r][4n + i]` over all `r` and `i < 4`, for the dwords `C[m][n]`, signed bytes of `A` and unsigned
    /// bytes of `B`: `tdpbsud`. `C` has the rows of `A`; `B` has 16.
    fn dot<const C: usize, const A: usize, const B: usize>(&mut self);

    /// Splits a block into its planes, the codes 0, 1, 2 as bytes: four rows of a `B` tile.
    fn unpack(block: &Block, planes: &mut Planes);

    /// Says that a tile will soon be loaded.
    fn prefetch(_tile: &Tile) {}
}
