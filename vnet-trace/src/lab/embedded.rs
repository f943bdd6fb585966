//! The labs that the program carries: `labs/*.toml`, embedded when it was compiled.

use include_dir::{Dir, include_dir};

use super::spec::{Lab, SpecError};

static LABS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/labs");

/// Every embedded lab's id and text, sorted by id.
pub fn texts() -> Vec<(&'static str, &'static str)> {
    let mut texts: Vec<_> = LABS
        .files()
        .filter(|file| file.path().extension().is_some_and(|ending| ending == "toml"))
        .filter_map(|file| Some((file.path().file_stem()?.to_str()?, file.contents_utf8()?)))
        .collect();
    texts.sort_unstable();
    texts
}

/// The embedded labs, sorted by id.
pub fn all() -> Result<Vec<Lab>, SpecError> {
    texts().into_iter().map(|(id, text)| Lab::parse(&format!("{id}.toml"), text)).collect()
}

/// The embedded lab of that id.
pub fn find(id: &str) -> Option<Result<Lab, SpecError>> {
    let (id, text) = texts().into_iter().find(|(known, _)| *known == id)?;
    Some(Lab::parse(&format!("{id}.toml"), text))
}

/// Embedded ids that resemble a misspelt one, best first: those that share the most words with it.
pub fn resembling(id: &str) -> Vec<&'static str> {
    let words: Vec<&str> = id.split('-').collect();
    let mut ranked: Vec<_> = texts()
        .into_iter()
        .map(|(known, _)| (known.split('-').filter(|word| words.contains(word)).count(), known))
        .filter(|(shared, known)| *shared > 0 || known.starts_with(id))
        .collect();
    ranked.sort_by_key(|(shared, known)| (std::cmp::Reverse(*shared), *known));
    ranked.into_iter().take(3).map(|(_, known)| known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_lab_is_well_formed_and_named_after_its_file() {
        let labs = all().unwrap();
        assert!(labs.len() >= 150, "{}", labs.len());
        for ((stem, _), lab) in texts().iter().zip(&labs) {
            assert_eq!(*stem, lab.id);
        }
        assert_eq!(labs.iter().filter(|lab| lab.source.is_some()).count(), 29);
    }

    #[test]
    fn finds_and_suggests() {
        assert_eq!(find("two-netns-ovs").unwrap().unwrap().id, "two-netns-ovs");
        assert!(find("two-netns").is_none());
        assert!(resembling("two-netns-bridges").contains(&"two-netns-bridge"));
        assert!(resembling("zzz").is_empty());
    }
}
