//! What a watched program tells about its own progress: lines of its standard output.

/// A longer line is none of these.
const MAX_LINE: usize = 64;

/// What one line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// How long the request, call or token took.
    pub(super) time_ns: u64,
    /// How many tokens it gave; `None` when it failed.
    pub(super) tokens: Option<u64>,
}

/// Finds lines `<nanoseconds>,<tokens>` and `<nanoseconds>,error` in a stream of bytes, both numbers whole and above 0.
/// Everything else is left alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    /// The line is too long; wait for its end.
    skip: bool,
}

impl Lines {
    /// Takes the next bytes; gives what the lines that end in them tell.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Told> {
        let mut told = Vec::new();
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let ends = part.last() == Some(&b'\n');
            if self.line.len() + part.len() > MAX_LINE {
                self.skip = true;
                self.line.clear();
            } else if !self.skip {
                self.line.extend_from_slice(part);
            }
            if ends {
                told.extend(parse(&self.line));
                self.line.clear();
                self.skip = false;
            }
        }
        told
    }
}

fn parse(line: &[u8]) -> Option<Told> {
    let line = std::str::from_utf8(line)
        .ok()?
        .trim_end_matches(['\n', '\r']);
    let (time, tokens) = line.split_once(',')?;
    // `parse` would take a sign as well.
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<u64>().ok())?
            .filter(|&number| number > 0)
    };
    Some(Told {
        time_ns: number(time)?,
        tokens: match tokens {
            "error" => None,
            tokens => Some(number(tokens)?),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_however_they_arrive() {
        let text = b"loading\n1500,3\nnote: 1,2,3\n20,error\r\n7,8";
        let want = [
            Told {
                time_ns: 1500,
                tokens: Some(3),
            },
            Told {
                time_ns: 20,
                tokens: None,
            },
        ];
        assert_eq!(Lines::default().push(text), want);
        let mut lines = Lines::default();
        let bytewise: Vec<Told> = text.iter().flat_map(|byte| lines.push(&[*byte])).collect();
        assert_eq!(bytewise, want);
        assert_eq!(lines.push(b"\n")[0].tokens, Some(8));
    }

    #[test]
    fn everything_else_is_left_alone() {
        for text in [
            "1,2,3\n",
            "-1,2\n",
            "+1,2\n",
            "1,-2\n",
            "1.5,2\n",
            " 1,2\n",
            "1,2 \n",
            "1;2\n",
            ",\n",
            "1,\n",
            ",1\n",
            "0,1\n",
            "1,0\n",
            "1,errors\n",
            "18446744073709551616,1\n",
            "\u{ff11},2\n",
        ] {
            assert_eq!(Lines::default().push(text.as_bytes()), [], "{text:?}");
        }
        // A long line is skipped to its end, and only that one.
        let mut lines = Lines::default();
        assert_eq!(lines.push(&[b'1'; 1000]), []);
        assert_eq!(lines.push(b",2\n5,6\n").len(), 1);
        assert!(lines.line.capacity() <= 4 * MAX_LINE);
    }
}
