//! `README.md` of the folder: a model card that says what was done and what was measured.

use std::fmt::Write as _;

use fgvr_encoder::export::Format;

use super::{Adapted, What, WriteOptions};

/// The card as Markdown with the Hub's front matter. `usage` is the section on how to load it.
pub(super) fn card(
    adapted: &Adapted,
    what: What,
    options: &WriteOptions,
    name: &str,
    usage: &str,
) -> String {
    let library = match options.format {
        Format::Timm => "timm",
        Format::Transformers => "transformers",
    };
    let license = options.license.as_deref();
    let mut text = format!(
        "---\nlibrary_name: {library}\nlicense: {}\npipeline_tag: image-feature-extraction\n\
         tags:\n- fgvr\n- {library}\n- fine-grained\n- adapted\n---\n\n# {name}\n\n",
        license.unwrap_or("other")
    );
    let width = adapted.adaptation.width();
    let _ = match what {
        What::Adapted => writeln!(
            text,
            "{}, with its {width} features adapted to {} photos by fgvr: without labels, without training. The classifier of this \
             network is no class head: its {width} outputs are the adapted features y = W (f - mean), to be compared by \
             cosine. W divides out what augmented views of one photo differ by.\n",
            adapted.encoder, adapted.photos.fitted
        ),
        What::Start => writeln!(
            text,
            "{}, unchanged: an adaptation to {} photos was tried and is not part of this network.\n",
            adapted.encoder, adapted.photos.fitted
        ),
    };
    let _ = writeln!(text, "{}\n", adapted.answer(Some(what)));
    text.push_str(usage);
    let _ = writeln!(
        text,
        "![What was measured](adapt.svg)\n\n## What was measured\n"
    );
    for (title, table) in adapted.tables() {
        let _ = writeln!(text, "{title}:\n\n{}", table.to_markdown());
    }
    if let Some(table) = &adapted.table {
        text.push_str(
            "Labels chose nothing: they stand in these tables alone. `centred` takes off the mean and nothing else; the rows \
             below `adapted` are controls, fitted to the same photos.\n\n",
        );
        if table.left_out > 0 {
            let _ = writeln!(
                text,
                "{} photos are of a class without a training photo and are left out.\n",
                table.left_out
            );
        }
    }
    if adapted.neighbours.is_some() {
        text.push_str(
            "![What held-out photos find](neighbours.png)\n\nHeld-out photos, evenly chosen, and the photos fitted to that are \
             nearest to them by plain and by adapted features.\n\n",
        );
    }
    let _ = writeln!(text, "## How it was made\n\n| | |\n|---|---|");
    for (name, value) in facts(adapted) {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    let _ = writeln!(text, "\nImages: {}.\n", adapted.preprocessing);
    for remark in &adapted.remarks {
        let _ = writeln!(text, "{remark}.\n");
    }
    let _ = writeln!(
        text,
        "## Licence\n\n{}. The photos and the weights it started from have licences of their own.",
        license.unwrap_or("not stated; ask whoever adapted it")
    );
    text
}

fn facts(adapted: &Adapted) -> Vec<(&'static str, String)> {
    let (settings, fitted) = (&adapted.settings, adapted.adaptation.fitted());
    let mut facts = vec![
        ("start", adapted.encoder.clone()),
        ("photos", adapted.data.source.clone()),
        ("photos fitted to", adapted.photos.fitted.to_string()),
        ("photos held out", adapted.photos.held_out.to_string()),
        ("views of each", settings.views.to_string()),
        ("kind", settings.kind.to_string()),
        ("ridge", settings.ridge.to_string()),
        ("seed", settings.seed.to_string()),
    ];
    if let Some(pairs) = fitted.pairs {
        let of = format!("{pairs} pairs, each among {} nearest", settings.neighbours);
        facts.push(("mutual neighbours", of));
        facts.push(("their weight", settings.neighbour_weight.to_string()));
    }
    if let (Some(rank), Some(effective)) = (fitted.rank, fitted.effective_rank) {
        let of = format!(
            "{rank} of {}; effective rank {effective:.1}",
            adapted.adaptation.width()
        );
        facts.push(("directions in which views vary", of));
    }
    facts.push(("device", adapted.device.clone()));
    facts.push(("seconds", format!("{:.0}", adapted.seconds.total)));
    facts.push(("fgvr", env!("CARGO_PKG_VERSION").to_owned()));
    facts
}
