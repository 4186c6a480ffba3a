//! Templates: files that become manifests when a tool has rendered them.

use std::path::{Path, PathBuf};

use crate::error::{ReadError, ReadErrorKind};
use crate::position::Position;
use crate::shell;

/// Whether a text holds what templates are made of.
pub(crate) fn has_marks(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// The chart that a file is a template of: the folder with `Chart.yaml` beside a folder `templates` that the file is
/// in. Of a chart inside the `charts` of another one, the outer one, because only that is rendered.
///
/// Source: helm/helm pkg/chart/loader (the files of a chart).
pub(crate) fn chart_of(path: &Path) -> Option<PathBuf> {
    let is_chart = |folder: &Path| folder.join("Chart.yaml").is_file();
    let templates = path.ancestors().skip(1).filter(|folder| folder.ends_with("templates"));
    let mut chart = templates.filter_map(Path::parent).find(|folder| is_chart(folder))?;
    while let Some(charts) = chart.parent().filter(|parent| parent.ends_with("charts"))
        && let Some(outer) = charts.parent().filter(|outer| is_chart(outer))
    {
        chart = outer;
    }
    Some(chart.to_owned())
}

/// The error for a template of a chart.
pub(crate) fn of_chart(text: &str, start: Position, chart: &Path) -> ReadError {
    let before = text.find("{{").and_then(|at| text.get(..at)).unwrap_or_default();
    let reason = format!("an unrendered template of a Helm chart; {}", advice(Some(chart)));
    ReadError::new(ReadErrorKind::Template, reason).with_position(Some(start.after(before)))
}

/// The error for a text with marks of a template that cannot be read, for the reason that `error` gives.
pub(crate) fn unreadable(error: &ReadError, chart: Option<&Path>) -> ReadError {
    let reason = format!("an unrendered template; {} (as it stands: {})", advice(chart), error.reason());
    ReadError::new(ReadErrorKind::Template, reason).with_position(error.position())
}

fn advice(chart: Option<&Path>) -> String {
    let render = match chart {
        Some(chart) => {
            let chart = shell::quoted(chart);
            format!(
                "render it and read the result: `helm template RELEASE {chart} | portcullis eval -f - ...`"
            )
        }
        None => {
            "render it and read the result, as in `helm template RELEASE CHART | portcullis eval -f - ...`"
                .into()
        }
    };
    format!("{render}, or leave it out with `--exclude`")
}
