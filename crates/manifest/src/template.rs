//! Templates: files that become manifests when a tool has rendered them.

use std::path::{Path, PathBuf};

use portcullis_k8s::{Kind, Relevance};

use crate::document::Document;
use crate::error::{ReadError, ReadErrorKind};
use crate::position::Position;
use crate::shell;
use crate::tree::Node;

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

/// The error for a template of OpenShift that holds objects which policy depends on: they are what its parameters make
/// of them.
///
/// Source: openshift/api template/v1/types.go.
pub(crate) fn of_openshift(document: &Document) -> Option<ReadError> {
    let is_template =
        document.kind() == "Template" && matches!(document.api_version(), "template.openshift.io/v1" | "v1");
    let is_skipped = |object: Node<'_>| {
        let [version, kind] = ["apiVersion", "kind"].map(|key| object.get_str(key).unwrap_or_default());
        matches!(Kind::of(version, kind), Relevance::Ignored)
    };
    let objects = document.root().get("objects").filter(|_| is_template)?;
    if objects.items().all(is_skipped) {
        return None;
    }
    let file = shell::quoted(Path::new(document.file()));
    let reason = format!(
        "an unprocessed template of OpenShift; process it and read the result: `oc process --local -f {file} | \
         portcullis eval -f - ...`, or leave it out with `--exclude`"
    );
    let error = ReadError::new(ReadErrorKind::Template, reason).with_file(document.shared_file());
    Some(error.with_position(Some(document.position())).with_object(Some(document.identity())))
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
