//! The columns of every file of a run directory.

use std::fmt;

use crate::FieldError;

/// Gives the text of a field of `R`.
pub type WriteField<R> = Box<dyn Fn(&R) -> String>;
/// Sets a field of `R` from its text.
pub type ReadField<R> = Box<dyn Fn(&mut R, &str) -> Result<(), FieldError>>;

/// One column of a row type `R`.
pub struct Column<R> {
    /// The name in the header.
    pub name: &'static str,
    /// What it holds, in one sentence; the unit is the suffix of the name.
    pub doc: &'static str,
    /// Files from before there was this column lack it: the field is empty then, and that is no error.
    pub later: bool,
    /// The field of a row.
    pub write: WriteField<R>,
    /// Sets the field of a row.
    pub read: ReadField<R>,
}

impl<R> fmt::Debug for Column<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Column({})", self.name)
    }
}

/// A row type with its table of columns.
pub trait Columns: Default + 'static {
    /// The columns in the order of the file.
    fn columns() -> Vec<Column<Self>>;

    /// The header line.
    fn header() -> Vec<&'static str> {
        Self::columns().iter().map(|column| column.name).collect()
    }

    /// The fields of one row, in the order of the header.
    fn record(&self) -> Vec<String> {
        Self::columns()
            .iter()
            .map(|column| (column.write)(self))
            .collect()
    }
}

/// Whether the word `later` stands before the sentence of a column.
macro_rules! is_later {
    () => {
        false
    };
    (later) => {
        true
    };
}

/// Defines a row type and its table of columns in one place. `later` before the sentence of a column says that records exist
/// which were written before there was one; [`read_rows`](crate::read_rows) leaves its field empty there. A column that is added to
/// a file of which there are records is `later`, and of a type that can be empty.
macro_rules! row {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty = $($later:ident)? $doc:literal),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $(#[doc = $doc] $(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::columns::Columns for $name {
            fn columns() -> Vec<$crate::columns::Column<Self>> {
                vec![$($crate::columns::Column {
                    name: stringify!($field),
                    doc: $doc,
                    later: $crate::columns::is_later!($($later)?),
                    write: Box::new(|row: &Self| $crate::field::Field::write(&row.$field)),
                    read: Box::new(|row: &mut Self, text: &str| {
                        row.$field = <$type as $crate::field::Field>::read(text).ok_or_else(|| {
                            $crate::field::FieldError {
                                column: stringify!($field),
                                text: text.to_owned(),
                                want: <$type as $crate::field::Field>::WANT,
                            }
                        })?;
                        Ok(())
                    }),
                },)*]
            }
        }
    };
}

pub(crate) use {is_later, row};
