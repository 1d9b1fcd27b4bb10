//! `/proc/cpuinfo`: blocks of `name : value` lines, one block a processor.

/// The block of processor `cpu`.
pub(crate) fn processor(info: &str, cpu: usize) -> Option<&str> {
    info.split("\n\n")
        .find(|block| field(block, "processor").and_then(|id| id.parse().ok()) == Some(cpu))
}

/// The value of the first line with that name; `None` when there is none or it is empty.
pub(crate) fn field<'a>(block: &'a str, name: &str) -> Option<&'a str> {
    block.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name)
            .then(|| value.trim())
            .filter(|value| !value.is_empty())
    })
}

/// What the processor can do: `flags` on x86, `Features` on Arm.
pub(crate) fn flags(block: &str) -> impl Iterator<Item = &str> {
    field(block, "flags")
        .or_else(|| field(block, "Features"))
        .unwrap_or_default()
        .split_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_processor() {
        let info = "processor\t: 0\nmodel name\t: A: B\nflags\t\t: a b\npower management:\n\nprocessor\t: 1\nmodel\t: 7\nFeatures: x\n";
        let first = processor(info, 0).unwrap();
        assert_eq!(field(first, "model name"), Some("A: B"));
        assert_eq!(field(first, "model"), None);
        assert_eq!(field(first, "power management"), None);
        assert_eq!(flags(first).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            flags(processor(info, 1).unwrap()).collect::<Vec<_>>(),
            ["x"]
        );
        assert_eq!(processor(info, 2), None);
    }
}
