use crate::Failure;

/// How a complaint about the command line begins.
pub(crate) const WRONG: &str = "wrong command line: ";

/// The words behind the command's name.
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    pub(crate) fn new(words: Vec<String>) -> Self {
        Arguments(words)
    }

    /// Takes a switch out; whether it was there.
    pub(crate) fn switch(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != name);
        self.0.len() < before
    }

    /// Takes a word out that stands in front of all others; whether it was there.
    pub(crate) fn word(&mut self, name: &str) -> bool {
        let there = self.0.first().is_some_and(|word| word == name);
        if there {
            self.0.remove(0);
        }
        there
    }

    /// Takes the number of an option out, given as [`value`](Self::value) takes it.
    pub(crate) fn number(&mut self, name: &str, default: u64) -> Result<u64, Failure> {
        match self.value(name)? {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("{WRONG}{name} {text:?} is no number")),
        }
    }

    /// Takes an option and its value out, given as `--name value` or `--name=value`.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>, Failure> {
        let joined = format!("{name}=");
        let Some(at) = self.0.iter().position(|word| word == name || word.starts_with(&joined)) else {
            return Ok(None);
        };
        let word = self.0.remove(at);
        if let Some(value) = word.strip_prefix(&joined) {
            return Ok(Some(value.to_owned()));
        }
        if at >= self.0.len() {
            return Err(format!("{WRONG}{name} needs a value"));
        }
        Ok(Some(self.0.remove(at)))
    }

    /// All words left; a `--` in front of them is dropped.
    pub(crate) fn rest(mut self) -> Vec<String> {
        if self.0.first().is_some_and(|word| word == "--") {
            self.0.remove(0);
        }
        self.0
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), Failure> {
        match self.0.first() {
            None => Ok(()),
            Some(word) => Err(format!("{WRONG}{word:?} is not understood; --help says what is")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Arguments {
        Arguments::new(text.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn values_both_ways() {
        let mut given = arguments("--json --seconds 5 --only=a,b x");
        assert!(given.switch("--json") && !given.switch("--json"));
        assert_eq!(given.value("--seconds"), Ok(Some("5".into())));
        assert_eq!(given.value("--only"), Ok(Some("a,b".into())));
        assert_eq!(given.value("--skip"), Ok(None));
        assert!(given.end().unwrap_err().contains("\"x\""));
        assert!(arguments("--seconds").value("--seconds").is_err());
        assert_eq!(arguments("-- --listen x").rest(), ["--listen", "x"]);
    }
}
