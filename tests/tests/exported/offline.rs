//! A recording as a world in which to predict: on another machine, by nobody, and with parts of it missing.
//!
//! | the recording | the prediction |
//! | --- | --- |
//! | whole | what it was where it was made, or undecided where the kernel had to be asked |
//! | a part of a namespace was not read | what the lab says, or undecided |

use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::Value;
use vnet_trace::ask;
use vnet_trace::collect::recording_file;
use vnet_trace::lab::Lab;
use vnet_trace::lab::spec;
use vnet_trace::model::diagnosis::Verdict;
use vnet_trace::model::netfilter::{Backend, RulesetGap};
use vnet_trace::model::snapshot::{Netns, Part};

/// Predicts as nobody in an empty network namespace, and compares with what was foretold in the lab.
pub fn by_nobody(program: &Path, recording: &Path, foretold: &Path) -> Result<(), Failed> {
    // Files are handed over open: nobody may not be able to walk to them.
    const AS_NOBODY: &str = r#"exec 3<"$0" 4<"$1"
exec unshare --net setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs \
  /proc/self/fd/3 predict --json -r /proc/self/fd/4"#;
    let done = Command::new("bash").args(["-c", AS_NOBODY]).arg(program).arg(recording).output()?;
    let answer: Value = serde_json::from_slice(&done.stdout)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&done.stderr)))?;
    let there: Value = serde_json::from_slice(&std::fs::read(foretold)?)?;
    let said = |answer: &Value| {
        [&answer["verdict"], &answer["primary"]["code"], &answer["primary"]["place"]["dev"]].map(ToString::to_string)
    };
    if answer["verdict"] != "undecided" && said(&answer) != said(&there) {
        return Err(format!("nobody foretells {:?}, and there it was {:?}", said(&answer), said(&there)).into());
    }
    Ok(())
}

/// Takes a part out of a namespace, and says so as the snapshot would.
type Loss = (Part, fn(&mut Netns));

const LOSSES: &[Loss] = &[
    (Part::Addresses, |netns| netns.addresses.clear()),
    (Part::Routes, |netns| netns.routes.clear()),
    (Part::Rules, |netns| netns.rules.clear()),
    (Part::Neighbours, |netns| netns.neighbours.clear()),
    (Part::Fdb, |netns| netns.fdb.clear()),
    (Part::Vlans, |netns| netns.bridge_vlans.clear()),
    (Part::Qdiscs, |netns| netns.qdiscs.clear()),
    (Part::Filters, |netns| netns.filters.clear()),
    (Part::Ipsec, |netns| netns.xfrm_policies.clear()),
    (Part::Settings, |netns| netns.sysctls.clear()),
    (Part::Netfilter, |netns| {
        netns.netfilter.tables.clear();
        let program = "nft".to_owned();
        netns.netfilter.gaps.push(RulesetGap::ProgramMissing { program, backend: Backend::Nft });
    }),
    (Part::Everything, |netns| {
        netns.links.clear();
        netns.addresses.clear();
        netns.routes.clear();
    }),
];

/// Predicts once for each part of each namespace that could be missing: right, or undecided.
pub fn with_gaps(recording: &Path, lab: &Lab) -> Result<(), Failed> {
    let whole = recording_file::load(recording)?;
    let mut wrong = Vec::new();
    for at in 0..whole.before.namespaces.len() {
        for (part, lose) in LOSSES {
            let mut recording = whole.clone();
            let netns = &mut recording.before.namespaces[at];
            lose(netns);
            if *part != Part::Netfilter {
                netns.unread.insert(*part);
            }
            let name = netns.name.clone();
            let diagnosis = ask::foretell_recorded(recording, None)?.diagnosis;
            let code = diagnosis.primary.as_ref().map(|primary| primary.code.as_str());
            let right = match (diagnosis.verdict, lab.expect.verdict) {
                (Verdict::Undecided, _) | (Verdict::Delivered, spec::Verdict::Delivered) => true,
                (Verdict::Lost, spec::Verdict::Lost) => code.is_some_and(|code| {
                    lab.expect.cause.as_deref() == Some(code) || lab.expect.also.iter().any(|also| also == code)
                }),
                _ => false,
            };
            if !right {
                wrong.push(format!("without {part:?} of {name}: {:?} {code:?}", diagnosis.verdict));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("foretold with gaps: {wrong:#?}").into()) }
}
