//! The edge: a library error on its way to a person, as `error: … / caused by: … / help: …`.

use std::error::Error;
use std::fmt;

/// An error with what the user can do about it.
#[derive(Debug)]
pub struct Failure {
    error: Box<dyn Error + Send + Sync>,
    help: Option<String>,
}

impl Failure {
    /// An error, with advice if there is any.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>, help: Option<String>) -> Self {
        Self { error: error.into(), help }
    }

    /// An error, with advice.
    pub fn with_help(error: impl Into<Box<dyn Error + Send + Sync>>, help: impl Into<String>) -> Self {
        Self { error: error.into(), help: Some(help.into()) }
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), help: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.error)?;
        let mut cause = self.error.source();
        while let Some(error) = cause {
            // Some errors are several lines, such as TOML's excerpt of the file.
            writeln!(f, "caused by: {}", error.to_string().trim_end().replace('\n', "\n  "))?;
            cause = error.source();
        }
        match &self.help {
            Some(help) => writeln!(f, "help: {help}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_error_causes_and_help() {
        let lab = crate::lab::Lab::parse("x.toml", "id = 3").expect_err("no lab");
        let text = Failure::with_help(lab, "see `vnet-trace lab show two-netns-direct`").to_string();
        assert!(
            text.starts_with("error: x.toml is not a lab file\ncaused by: TOML parse error at line 1, column 6\n"),
            "{text}"
        );
        assert!(text.ends_with("\nhelp: see `vnet-trace lab show two-netns-direct`\n"), "{text}");
    }
}
