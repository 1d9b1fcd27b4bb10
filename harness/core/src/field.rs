//! One CSV field: how a value is written and read. Missing is the empty field.

use std::str::FromStr;

/// A field that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column `{column}`: `{text}` is not {want}")]
pub struct FieldError {
    /// The column's name.
    pub column: &'static str,
    /// What stood there.
    pub text: String,
    /// What should stand there.
    pub want: &'static str,
}

/// A type that is written as one CSV field.
pub trait Field: Sized {
    /// What the field holds, for error messages.
    const WANT: &'static str;

    /// The text of the field; empty when the quantity is missing.
    fn write(&self) -> String;

    /// Reads the text of a field; `None` when it is malformed.
    fn read(text: &str) -> Option<Self>;
}

impl Field for String {
    const WANT: &'static str = "text";

    fn write(&self) -> String {
        self.clone()
    }

    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

/// Reads a number; `None` when it is malformed or `ok` refuses it.
fn number<T: FromStr>(text: &str, ok: impl Fn(&T) -> bool) -> Option<T> {
    text.parse().ok().filter(ok)
}

macro_rules! integer_fields {
    ($($type:ty),*) => {$(
        impl Field for Option<$type> {
            const WANT: &'static str = "a whole number or empty";

            fn write(&self) -> String {
                self.as_ref().map_or_else(String::new, ToString::to_string)
            }

            fn read(text: &str) -> Option<Self> {
                if text.is_empty() {
                    Some(None)
                } else {
                    number(text, |_| true).map(Some)
                }
            }
        }

        impl Field for $type {
            const WANT: &'static str = "a whole number";

            fn write(&self) -> String {
                self.to_string()
            }

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}

integer_fields!(u64, u32, usize, i64);

impl Field for Option<f64> {
    const WANT: &'static str = "a finite number or empty";

    fn write(&self) -> String {
        // `{}` of f64 is the shortest text that reads back to the same value.
        self.as_ref()
            .filter(|v| v.is_finite())
            .map_or_else(String::new, ToString::to_string)
    }

    fn read(text: &str) -> Option<Self> {
        if text.is_empty() {
            Some(None)
        } else {
            number(text, |v: &f64| v.is_finite()).map(Some)
        }
    }
}
