//! The report of `check`, for people.

use livepatch_types::plural;

use crate::cli::{lost_text, unit_text};
use crate::report::{BuildReport, FunctionReport, Touch, Verdict};

/// The whole report.
pub(crate) fn check_text(report: &BuildReport) -> String {
    let verdict = match report.verdict {
        Verdict::Ok => "ok: it can be a livepatch as it is",
        Verdict::NotAffected => "not affected: the patch changes nothing in this kernel",
        Verdict::NeedsPerson => "needs a person: see the findings",
        Verdict::Cannot => "cannot be a livepatch: see the findings",
    };
    let mut text =
        format!("kernel   {} ({})\nverdict  {verdict}\n", report.kernel.release, report.kernel.build_id);
    let units = plural(report.units_compiled, "unit", "units");
    text.push_str(&format!("built by {} (toolchain: {})\n", report.compiler, report.toolchain.name));
    text.push_str(&format!("units    {units} compiled twice, {} the same bytes\n", report.units_identical));
    for unit in &report.units {
        text.push_str(&unit_text(unit));
    }
    text.push_str(&lost_text(report));
    for constant in &report.constant_changes {
        text.push_str(&format!("  constant  {} is {}, was {}\n", constant.name, constant.new, constant.old));
    }
    text.push_str(&functions_text(report));
    for finding in &report.findings {
        text.push_str(&format!("\n{} ({})\n  {}\n", finding.place, finding.unit, finding.why));
        text.push_str(&format!("  rule: {}\n  way out: {}\n", finding.rule, finding.way_out));
        if let Some(argument) = &finding.argument {
            text.push_str(&format!("  argued: {argument}\n"));
        }
    }
    text
}

/// A table of the functions that the patch touches.
fn functions_text(report: &BuildReport) -> String {
    let rows = report.units.iter().flat_map(|unit| unit.functions.iter().map(|f| row(&unit.object, f)));
    let rows: Vec<[String; 5]> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = ["function", "object", "fentry", "place", "inlined into"].map(str::to_owned);
    let all = || [&head].into_iter().chain(&rows);
    let widths: [usize; 5] =
        std::array::from_fn(|column| all().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = "\n".to_owned();
    for row in all() {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(object: &str, function: &FunctionReport) -> [String; 5] {
    let fentry = match (function.touch, function.fentry) {
        (Touch::Added, _) => "new",
        (Touch::InlinedOnly, _) => "copies only",
        (Touch::Changed | Touch::Caller, Some(true)) => "yes",
        (Touch::Changed | Touch::Caller, _) => "no",
    };
    // A place is only worth saying where others have the name too.
    let place = function.sympos.filter(|place| *place > 0).map(|place| place.to_string());
    let inlined = match function.inlined_into.as_slice() {
        [] => "-".to_owned(),
        into => into.join(", "),
    };
    [
        function.name.clone(),
        object.to_owned(),
        fentry.to_owned(),
        place.unwrap_or_else(|| "-".into()),
        inlined,
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use livepatch_types::{Architecture, BuildId, KernelIdentity, KernelRelease};

    use super::*;
    use crate::report::{ConstantReport, Finding, StepSeconds, ToolchainReport, UnitReport};

    fn function(name: &str, touch: Touch, fentry: Option<bool>, sympos: Option<u32>) -> FunctionReport {
        FunctionReport { name: name.into(), touch, fentry, sympos, inlined_into: Vec::new() }
    }

    #[test]
    fn people_read_it_at_a_glance() {
        let mut inlined = function("check_one", Touch::InlinedOnly, None, None);
        inlined.inlined_into = vec!["check_all".into(), "walk".into()];
        let unit = UnitReport {
            callbacks: Vec::new(),
            unit: "net/x/walk.o".into(),
            object: "x_walk".into(),
            changed_functions: vec!["check_all".into(), "walk".into()],
            functions: vec![
                function("check_all", Touch::Changed, Some(true), Some(0)),
                function("walk", Touch::Changed, Some(true), Some(2)),
                function("walk_irq", Touch::Changed, Some(false), None),
                function("helper", Touch::Added, None, None),
                inlined,
            ],
            added: vec!["helper".into()],
            identical_functions: 1,
            not_compared: Vec::new(),
            livepatch_symbols: Vec::new(),
        };
        let report = BuildReport {
            states: Vec::new(),
            schema: 1,
            kernel: KernelIdentity {
                architecture: Architecture::Amd64,
                release: KernelRelease::parse("6.1.0-50-amd64").unwrap(),
                build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
            },
            compiler: "gcc".into(),
            toolchain: ToolchainReport {
                name: "host".into(),
                content: None,
                packages: Vec::new(),
                sandbox: "none",
            },
            verdict: Verdict::NeedsPerson,
            findings: vec![Finding {
                verdict: Verdict::NeedsPerson,
                rule: "layout-changed".into(),
                unit: "net/x/walk.o".into(),
                place: "struct walk.depth".into(),
                why: "the patch adds it: int (4 bytes) at byte 8; the size goes from 8 to 16 bytes".into(),
                way_out: "keep it".into(),
                argument: Some("walks live on the stack".into()),
            }],
            units_compiled: 1,
            units_identical: 0,
            units: vec![unit],
            layout_changes: Vec::new(),
            constant_changes: vec![ConstantReport { name: "WALK_MAX".into(), old: 4, new: 5 }],
            lost: BTreeSet::new(),
            seconds: StepSeconds::default(),
        };
        insta::assert_snapshot!(check_text(&report), @r"
        kernel   6.1.0-50-amd64 (0101010101010101010101010101010101010101)
        verdict  needs a person: see the findings
        built by gcc (toolchain: host)
        units    1 unit compiled twice, 0 the same bytes
          x_walk    net/x/walk.o: check_all, walk
                    1 function of the unit proven identical to the shipped code
          constant  WALK_MAX is 5, was 4

        function   object  fentry       place  inlined into
        check_all  x_walk  yes          -      -
        walk       x_walk  yes          2      -
        walk_irq   x_walk  no           -      -
        helper     x_walk  new          -      -
        check_one  x_walk  copies only  -      check_all, walk

        struct walk.depth (net/x/walk.o)
          the patch adds it: int (4 bytes) at byte 8; the size goes from 8 to 16 bytes
          rule: layout-changed
          way out: keep it
          argued: walks live on the stack
        ");
    }
}
