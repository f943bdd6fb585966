//! The tool's answer, as far as a lab judges it: the JSON of `ping --json`, read as an outside script would read it.
//!
//! On purpose these are types of their own: a field that `present` renames breaks a lab instead of passing unnoticed.

use serde::{Deserialize, Serialize};

use super::report::Miss;
use super::spec::{Expect, Verdict};

/// One document of `vnet-trace ping --json`. Fields that no lab judges are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Answer {
    /// delivered, lost or undecided.
    pub verdict: String,
    /// None when delivered, or when no cause can be named.
    pub primary: Option<Primary>,
    /// Other names of the same loss, and what will bite after the first fix.
    #[serde(default)]
    pub also: Vec<Primary>,
    /// Delivered, but not the way a person expects.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// Where what was seen is not what the configuration gives.
    #[serde(default)]
    pub parting: Option<Parting>,
}

/// Where reality leaves the plan.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Parting {
    /// In one sentence.
    pub summary: String,
    /// What is not modelled and may be why.
    #[serde(default)]
    pub suspects: Vec<String>,
}

/// A cause that was named.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Primary {
    /// The cause's code.
    pub code: String,
    /// witnessed, deduced or suspected.
    #[serde(default)]
    pub grade: String,
    /// What was lost.
    pub role: Option<String>,
    /// Where.
    #[serde(default)]
    pub place: Place,
    /// One sentence.
    #[serde(default)]
    pub summary: String,
    /// Best first.
    #[serde(default)]
    pub fixes: Vec<Fix>,
    /// Who made the setting, in one sentence.
    #[serde(default)]
    pub owner: Option<String>,
    /// Who made the decisive settings.
    #[serde(default)]
    pub provenance: Vec<Origin>,
}

/// Where a decisive setting comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Origin {
    /// Who set it.
    pub set_by: String,
}

/// Where it was lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Place {
    /// The namespace's name, or "." for that of the question.
    pub netns: Option<String>,
    /// The device.
    pub dev: Option<String>,
}

/// One way to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Fix {
    /// safe, changes-policy or needs-choice.
    pub risk: String,
    /// Each for `sh -c`.
    pub commands: Vec<String>,
}

/// A note's code.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Note {
    /// Its code.
    pub code: String,
}

impl Primary {
    /// Everybody who is named as the owner of a decisive setting.
    fn owners(&self) -> impl Iterator<Item = &str> {
        let origins = self.provenance.iter().map(|origin| origin.set_by.as_str());
        origins.chain(self.owner.as_deref())
    }
}

impl Answer {
    /// Everything in which the answer differs from what the lab expects. Empty means that it is right.
    pub fn misses(&self, expect: &Expect) -> Vec<Miss> {
        let mut misses = Vec::new();
        let differs = |what: &str, want: &str, got: &str| Miss::Differs {
            what: what.to_owned(),
            want: want.to_owned(),
            got: got.to_owned(),
        };

        let verdict = match expect.verdict {
            Verdict::Lost => "lost",
            Verdict::Delivered => "delivered",
        };
        if self.verdict != verdict {
            misses.push(differs("verdict", verdict, &self.verdict));
        }

        let given = self.primary.as_ref().map_or("none", |primary| primary.code.as_str());
        match &expect.cause {
            Some(cause) if given != cause && !expect.also.iter().any(|also| also == given) => {
                misses.push(differs("cause", cause, given));
            }
            None if self.primary.is_some() => misses.push(differs("cause", "none", given)),
            _ => {}
        }
        if let Some(primary) = &self.primary
            && expect.verdict == Verdict::Lost
        {
            let direction = expect.direction.and_then(|direction| serde_json::to_value(direction).ok());
            let direction = direction.as_ref().and_then(|value| value.as_str());
            for (what, want, got) in [
                ("role", direction, &primary.role),
                ("netns", expect.netns.as_deref(), &primary.place.netns),
                ("dev", expect.dev.as_deref(), &primary.place.dev),
            ] {
                let got = got.as_deref().unwrap_or("none");
                if let Some(want) = want
                    && want != got
                {
                    misses.push(differs(what, want, got));
                }
            }
            if let Some(owner) = &expect.owner
                && !primary.owners().any(|named| named.contains(owner.as_str()))
            {
                let named: Vec<&str> = primary.owners().collect();
                misses.push(differs("owner", owner, &if named.is_empty() { "none".into() } else { named.join("; ") }));
            }
        }

        // In a healthy network nothing happens that was not foretold: if it does, the prediction is wrong.
        if let Some(parting) = self.parting.as_ref().filter(|_| expect.verdict == Verdict::Delivered) {
            misses.push(differs("parting", "none", &parting.summary));
        }

        let notes = expect.notes.as_deref().unwrap_or_default();
        for note in notes {
            if !self.notes.iter().any(|given| given.code == *note) {
                misses.push(differs("note", note, "none"));
            }
        }
        if expect.verdict == Verdict::Delivered && expect.notes.is_some() {
            for given in self.notes.iter().filter(|given| !notes.contains(&given.code)) {
                misses.push(differs("note", "none", &given.code));
            }
        }
        misses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expect(text: &str) -> Expect {
        toml::from_str(text).unwrap()
    }

    fn answer(text: &str) -> Answer {
        serde_json::from_str(text).unwrap()
    }

    fn misses(answer_text: &str, expect_text: &str) -> Vec<String> {
        answer(answer_text).misses(&expect(expect_text)).iter().map(ToString::to_string).collect()
    }

    const LOST: &str = "verdict = \"lost\"\ncause = \"rp-filter\"\nalso = [\"martian-other\"]\ndirection = \"arp-request\"\nnetns = \"ns2\"\ndev = \"veth1\"\nnotes = [\"arp-cached\"]";

    #[test]
    fn accepts_the_right_answer_and_its_second_name() {
        for code in ["rp-filter", "martian-other"] {
            let given = format!(
                r#"{{"schema":1,"verdict":"lost","primary":{{"code":"{code}","grade":"witnessed","role":"arp-request","place":{{"netns":"ns2","dev":"veth1","ifindex":3}},"fixes":[]}},"notes":[{{"code":"arp-cached"}},{{"code":"nat-rewritten"}}]}}"#
            );
            assert_eq!(misses(&given, LOST), Vec::<String>::new());
        }
    }

    #[test]
    fn names_every_difference() {
        let given =
            r#"{"verdict":"lost","primary":{"code":"no-route","role":"request","place":{"netns":".","dev":null}}}"#;
        assert_eq!(
            misses(given, LOST),
            [
                "cause is no-route, not rp-filter",
                "role is request, not arp-request",
                "netns is ., not ns2",
                "dev is none, not veth1",
                "note is none, not arp-cached"
            ]
        );
        assert_eq!(
            misses(r#"{"verdict":"undecided"}"#, "verdict = \"lost\"\ncause = \"rp-filter\""),
            ["verdict is undecided, not lost", "cause is none, not rp-filter"]
        );
    }

    #[test]
    fn wants_the_owner_of_a_setting_named() {
        let expect = "verdict = \"lost\"\ncause = \"netfilter-drop\"\nowner = \"Docker\"";
        let given = |by: &str| {
            format!(
                r#"{{"verdict":"lost","primary":{{"code":"netfilter-drop","provenance":[{{"setting":"x","set_by":"{by}"}}]}}}}"#
            )
        };
        assert_eq!(misses(&given("Docker (published ports)"), expect), Vec::<String>::new());
        assert_eq!(misses(&given("unknown"), expect), ["owner is unknown, not Docker"]);
    }

    #[test]
    fn a_healthy_lab_gets_no_finding_and_no_false_note() {
        let given =
            r#"{"verdict":"delivered","primary":{"code":"no-route","place":{}},"notes":[{"code":"loopback-reply"}]}"#;
        assert_eq!(
            misses(given, "verdict = \"delivered\"\nnotes = []"),
            ["cause is no-route, not none", "note is loopback-reply, not none"]
        );
        assert_eq!(
            misses(r#"{"verdict":"delivered","primary":null,"notes":[{"code":"x"}]}"#, "verdict = \"delivered\""),
            Vec::<String>::new()
        );
    }
}
