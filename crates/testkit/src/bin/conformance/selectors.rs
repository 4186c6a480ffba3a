//! `calico_selectors.json`: validity, canonical form, matches and restrictions.

use std::path::Path;

use portcullis::label::{Labels, Scope};
use portcullis::selector::{LabelRef, Selector};
use serde_json::Value;

use crate::{Tally, list, read, text};

pub(crate) fn run(folder: &Path) -> Result<Tally, String> {
    let corpus = read(&folder.join("calico_selectors.json"))?;
    let entries = corpus.as_array().ok_or("calico_selectors.json is not a list")?;
    let mut tally = Tally { cases: entries.len(), ..Tally::default() };
    for entry in entries {
        let source = text(entry, "selector");
        let name = format!("`{}`", source.escape_debug());
        let valid = entry.get("valid") == Some(&Value::Bool(true));
        let parsed = Selector::parse(source);
        tally.check(parsed.is_ok() == valid, &name, || format!("valid is {}, not {valid}", parsed.is_ok()));
        let Ok(selector) = parsed else { continue };
        if let Some(canonical) = entry.get("canonical").and_then(Value::as_str) {
            let got = selector.to_string();
            tally.check(got == canonical, &name, || format!("prints `{got}`, not `{canonical}`"));
        }
        for case in list(entry, "cases") {
            let labels: Labels = case
                .get("labels")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
                .collect();
            let wanted = case.get("match") == Some(&Value::Bool(true));
            tally.check(selector.matches(&labels) == wanted, &name, || format!("{labels:?} is not {wanted}"));
        }
        if let Some(wanted) = entry.get("restrictions").and_then(Value::as_object) {
            let got = selector.expr().restrictions();
            tally.check(got.len() == wanted.len(), &name, || format!("restrictions {got:?}, not {wanted:?}"));
            for (key, wanted) in wanted {
                let restriction = got.get(&LabelRef::new(Scope::Own, key.as_str()));
                let flag = |field| wanted.get(field) == Some(&Value::Bool(true));
                let same = restriction.is_some_and(|r| {
                    r.must_be_present == flag("must_be_present") && r.must_be_absent == flag("must_be_absent")
                });
                tally.check(same, &name, || {
                    format!("restriction of `{key}` is {restriction:?}, not {wanted}")
                });
            }
        }
    }
    Ok(tally)
}
