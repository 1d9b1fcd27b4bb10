//! Rows as Parquet: a column each, null where a quantity is missing.

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use trit_core::{Column, Columns};

use super::ExchangeError;

/// Rows of one group: a reader holds a group at a time.
const GROUP: usize = 100_000;

/// What a column of rows holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Whole,
    Float,
}

fn kind<R: Columns>(column: &Column<R>) -> Kind {
    let takes = |text: &str| (column.read)(&mut R::default(), text).is_ok();
    if !takes("1") || takes("word") {
        Kind::Text
    } else if takes("1.5") {
        Kind::Float
    } else {
        Kind::Whole
    }
}

/// The file.
pub(super) fn bytes<R: Columns>(rows: &[R]) -> Result<Vec<u8>, ExchangeError> {
    write(rows).map_err(|error| ExchangeError::Library {
        what: "Parquet",
        message: error.to_string(),
    })
}

fn write<R: Columns>(rows: &[R]) -> Result<Vec<u8>, ParquetError> {
    let columns = R::columns();
    let kinds: Vec<Kind> = columns.iter().map(kind).collect();
    let fields = columns
        .iter()
        .zip(&kinds)
        .map(|(column, kind)| {
            let (physical, logical) = match kind {
                Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
                Kind::Whole => (Physical::INT64, None),
                Kind::Float => (Physical::DOUBLE, None),
            };
            Type::primitive_type_builder(column.name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(logical)
                .build()
                .map(Arc::new)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let schema = Type::group_type_builder("schema")
        .with_fields(fields)
        .build()?;
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties)?;
    for group in rows.chunks(GROUP) {
        let mut out = writer.next_row_group()?;
        for (column, kind) in columns.iter().zip(&kinds) {
            let texts: Vec<String> = group.iter().map(|row| (column.write)(row)).collect();
            let levels: Vec<i16> = texts
                .iter()
                .map(|text| i16::from(!text.is_empty()))
                .collect();
            let there = texts.iter().filter(|text| !text.is_empty());
            let Some(mut one) = out.next_column()? else {
                return Err(ParquetError::General("a column is too much".to_owned()));
            };
            match kind {
                Kind::Text => {
                    let values: Vec<ByteArray> =
                        there.map(|text| text.as_bytes().to_vec().into()).collect();
                    one.typed::<ByteArrayType>()
                        .write_batch(&values, Some(&levels), None)?;
                }
                Kind::Whole => {
                    let values = there
                        .map(|text| text.parse())
                        .collect::<Result<Vec<i64>, _>>()
                        .map_err(|error| {
                            ParquetError::General(format!("column `{}`: {error}", column.name))
                        })?;
                    one.typed::<Int64Type>()
                        .write_batch(&values, Some(&levels), None)?;
                }
                Kind::Float => {
                    // The program wrote these texts itself, from finite numbers.
                    let values: Vec<f64> = there.filter_map(|text| text.parse().ok()).collect();
                    one.typed::<DoubleType>()
                        .write_batch(&values, Some(&levels), None)?;
                }
            }
            one.close()?;
        }
        out.close()?;
    }
    writer.into_inner()
}
