//! `tritbench selftest --from`: a recording judged as if live.

use std::path::Path;

use trit_core::{Limits, RunDir, paired_blocks};

use super::record::{Record, finding_table, rate_row, rate_table};
use super::{LIMITS, SelftestArgs};
use crate::cmd::report::record_failure;
use crate::exit::{Exit, Failure, Outcome};
use crate::files;
use crate::out::{Out, say};

/// Judges a recording.
pub(super) fn replay(args: &SelftestArgs, path: &Path) -> Outcome {
    let limits = files::limits(args.limits.as_deref())?;
    let fine = Limits::parse("selftest", LIMITS).map_err(Failure::unusable)?;
    let dir = RunDir::open(path).map_err(|error| record_failure(&error))?;
    let session = dir.session().map_err(|error| record_failure(&error))?;
    let recording = session
        .comparison
        .as_ref()
        .filter(|comparison| comparison.pieces > 1);
    let Some(comparison) = recording else {
        return Err(Failure::unusable(anyhow::anyhow!(
            "`{}` is no recording of several comparisons; hint: scripts/record aa makes one",
            path.display()
        )));
    };
    let rows = dir.measurements().map_err(|error| record_failure(&error))?;
    let blocks = paired_blocks(&rows);
    drop(rows);
    let replayed = trit_report::replay(&blocks, comparison, &limits, &fine, session.plan.seed);
    let mut rates = rate_table();
    for row in &replayed.rows {
        rate_row(
            &mut rates,
            &row.method,
            &row.question,
            row.applied_percent,
            row.hits,
            row.trials,
        );
    }
    let findings = finding_table(&trit_report::replay_findings(&replayed));
    let format = args.format.format;
    Out::new().text(&format!(
        "{}\n{}",
        rates.render(format),
        findings.render(format)
    ))?;
    if let Some(uniform) = replayed.uniform {
        say(&format!(
            "{} p-values of unchanged cells against uniform: D = {:.4}, p = {:.4}",
            replayed.p_values, uniform.d, uniform.p
        ));
    }
    if let Some(percent) = replayed.detectable_percent {
        say(&format!(
            "minimal detectable effect of one piece: {percent:.2} % (median over cells and pieces)"
        ));
    }
    if let Some(out) = &args.out {
        let mut record = Record::new(
            "A recording of one build against itself",
            &trit_report::machine_line(&session),
            &session.started_utc,
        );
        record.table("findings", "What it shows", findings);
        record.table(
            "rates",
            "Every count, with Wilson's interval at 95 %",
            rates,
        );
        record.write(out)?;
    }
    Ok(Exit::Done)
}
