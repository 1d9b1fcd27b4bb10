//! The prompts that the program carries.

/// Name and text of every prompt of `suites/prompts`.
const PROMPTS: &[(&str, &str)] = &[
    (
        "renewable-energy",
        include_str!("../../../suites/prompts/renewable-energy.txt"),
    ),
    (
        "machine-learning",
        include_str!("../../../suites/prompts/machine-learning.txt"),
    ),
    (
        "quantum-computing",
        include_str!("../../../suites/prompts/quantum-computing.txt"),
    ),
    (
        "sustainable-development",
        include_str!("../../../suites/prompts/sustainable-development.txt"),
    ),
    (
        "library",
        include_str!("../../../suites/prompts/library.txt"),
    ),
    (
        "workshop",
        include_str!("../../../suites/prompts/workshop.txt"),
    ),
    (
        "harbour",
        include_str!("../../../suites/prompts/harbour.txt"),
    ),
];

/// The text of a prompt, without the end of its last line.
pub fn embedded_prompt(name: &str) -> Option<&'static str> {
    PROMPTS
        .iter()
        .find(|(prompt, _)| *prompt == name)
        .map(|(_, text)| text.trim_end())
}

/// The names of the prompts.
pub fn prompt_names() -> Vec<&'static str> {
    PROMPTS.iter().map(|(name, _)| *name).collect()
}

/// What a text is taken to be in tokens where no tokenizer says it: English has about four bytes a token.
pub const BYTES_A_TOKEN: u64 = 4;

/// Tokens of a prompt's text where the model has no tokenizer: its bytes over [`BYTES_A_TOKEN`], rounded up.
pub fn prompt_estimate(text: &str) -> u64 {
    (text.len() as u64).div_ceil(BYTES_A_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_short_and_long_up_to_the_limit() {
        let mut lengths: Vec<u64> = PROMPTS
            .iter()
            .map(|(name, _)| prompt_estimate(embedded_prompt(name).unwrap()))
            .collect();
        assert_eq!(lengths.len(), 7);
        lengths.sort_unstable();
        assert!(lengths[0] >= 5 && lengths[3] <= 16, "{lengths:?}");
        // The longest is near the limit, so that it means something.
        assert!((1500..=2048).contains(&lengths[6]), "{lengths:?}");
        assert_eq!(embedded_prompt("none"), None);
    }
}
