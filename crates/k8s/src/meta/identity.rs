//! What an object is called, and whether its metadata is as the API server wants it.

use alloc::format;
use alloc::string::String;

use portcullis_core::label::{Labels, Name};
use portcullis_core::quote::quoted;

use super::{ObjectMeta, Placing, check_labels, shared_labels};
use crate::context::Context;
use crate::error::ObjectRef;
use crate::path::Path;
use crate::validate::{self, Check};

/// The checked identity of an object.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Its namespace; `None` for objects of the cluster.
    pub(crate) namespace: Option<Name>,
    /// Its name.
    pub(crate) name: Name,
}

impl Identity {
    /// The namespace of a namespaced object.
    pub(crate) fn namespace(&self) -> Name {
        self.namespace.clone().unwrap_or_else(|| Name::new(DEFAULT_NAMESPACE))
    }
}

/// The namespace of namespaced objects that name none.
const DEFAULT_NAMESPACE: &str = "default";

impl ObjectMeta {
    /// How messages call this object, right or wrong.
    pub(crate) fn reference(&self, kind: &str, placing: Placing) -> ObjectRef {
        let namespace = match placing {
            Placing::Namespaced => Some(self.namespace_or_default().into()),
            Placing::Cluster => None,
        };
        ObjectRef { kind: kind.into(), namespace, name: self.shown_name() }
    }

    fn namespace_or_default(&self) -> &str {
        self.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
    }

    /// The name, or for an object that leaves it to the server the given beginning and a `*`, which no real name
    /// contains, and the number of those that begin alike from the second on.
    fn shown_name(&self) -> String {
        match (self.name.as_deref(), self.generate_name.as_deref()) {
            (Some(name), _) if !name.is_empty() => name.into(),
            (_, Some(prefix)) if !prefix.is_empty() && self.ordinal > 1 => {
                format!("{prefix}*#{}", self.ordinal)
            }
            (_, Some(prefix)) if !prefix.is_empty() => format!("{prefix}*"),
            _ => String::new(),
        }
    }

    /// Whether the object leaves its name to the server.
    pub(crate) fn is_generated(&self) -> bool {
        self.name.as_deref().unwrap_or_default().is_empty()
            && !self.generate_name.as_deref().unwrap_or_default().is_empty()
    }

    /// Checks all metadata and returns the identity; `None` when an error was noted.
    ///
    /// `name_rule` is the spelling rule for names of the kind. An object with `generateName` and without `name` is
    /// accepted, as the server does, and is called by the given beginning and a `*`.
    /// Source: kubernetes `apimachinery/pkg/api/validation/objectmeta.go`.
    pub(crate) fn identify(
        &self,
        placing: Placing,
        name_rule: fn(&str) -> Check,
        cx: &mut Context<'_>,
    ) -> Option<Identity> {
        let before = cx.error_count();
        let metadata = Path::root("metadata");
        let shown = self.shown_name();
        if shown.is_empty() {
            cx.error(&metadata.field("name"), "a name is required");
        } else if !self.is_generated()
            && let Err(reason) = name_rule(&shown)
        {
            cx.error(&metadata.field("name"), format!("{} {reason}", quoted(&shown)));
        }
        if let Some(prefix) = self.generate_name.as_deref().filter(|p| !p.is_empty()) {
            // The server appends letters and digits, so one hyphen at the end is fine.
            let rest = prefix
                .strip_suffix('-')
                .filter(|r| !r.is_empty())
                .map_or_else(|| prefix.into(), |r| format!("{r}a"));
            if let Err(reason) = name_rule(&rest) {
                cx.error(&metadata.field("generateName"), format!("{} {reason}", quoted(prefix)));
            }
            if self.is_generated() {
                cx.warn(
                    &metadata.field("generateName"),
                    format!("the name is not known before the server makes it, shown as {}", quoted(&shown)),
                );
            }
        }
        let namespace = match placing {
            Placing::Namespaced => {
                let namespace = self.namespace_or_default();
                if let Err(reason) = validate::dns_label(namespace) {
                    cx.error(&metadata.field("namespace"), format!("{} {reason}", quoted(namespace)));
                }
                Some(cx.name(namespace))
            }
            Placing::Cluster => {
                if let Some(namespace) = self.namespace.as_deref().filter(|n| !n.is_empty()) {
                    cx.warn(
                        &metadata.field("namespace"),
                        format!("objects of this kind have no namespace, {} is ignored", quoted(namespace)),
                    );
                }
                None
            }
        };
        check_labels(self.labels.as_ref(), &metadata.field("labels"), cx);
        // Hardly any text repeats the name of an object, so it is not looked for.
        (cx.error_count() == before).then(|| Identity { namespace, name: Name::from(shown) })
    }

    /// As [`ObjectMeta::identify`], and checks the parts that do not matter to policy as well. For policies, where
    /// what the API server refuses is refused here.
    pub(crate) fn identify_strict(
        &self,
        placing: Placing,
        name_rule: fn(&str) -> Check,
        cx: &mut Context<'_>,
    ) -> Option<Identity> {
        let before = cx.error_count();
        let identity = self.identify(placing, name_rule, cx);
        self.check_rest(&Path::root("metadata"), cx);
        identity.filter(|_| cx.error_count() == before)
    }

    fn check_rest(&self, metadata: &Path<'_>, cx: &mut Context<'_>) {
        /// The most that keys and values of annotations may take together, in bytes.
        const ANNOTATIONS_MAX: usize = 256 * 1024;
        if let Some(annotations) = &self.annotations {
            let path = metadata.field("annotations");
            for key in annotations.keys() {
                if let Err(reason) = validate::label_key(&key.to_lowercase()) {
                    cx.error(&path.key(key), reason);
                }
            }
            let size: usize = annotations.iter().map(|(k, v)| k.len().saturating_add(v.len())).sum();
            if size > ANNOTATIONS_MAX {
                cx.error(&path, format!("{size} bytes are more than the {ANNOTATIONS_MAX} allowed"));
            }
        }
        let mut controllers = 0usize;
        for (i, owner) in self.owner_references.iter().flatten().enumerate() {
            let path = metadata.field("ownerReferences");
            let path = path.index(i);
            let parts = [
                ("apiVersion", &owner.api_version),
                ("kind", &owner.kind),
                ("name", &owner.name),
                ("uid", &owner.uid),
            ];
            for (field, part) in parts {
                if part.as_deref().unwrap_or_default().is_empty() {
                    cx.error(&path.field(field), "must not be empty");
                }
            }
            if owner.controller == Some(true) {
                controllers = controllers.saturating_add(1);
                if controllers > 1 {
                    cx.error(&path.field("controller"), "only one owner can be the controller");
                }
            }
        }
        for (i, finalizer) in self.finalizers.iter().flatten().enumerate() {
            if let Err(reason) = validate::label_key(finalizer) {
                let path = metadata.field("finalizers");
                cx.error(&path.index(i), format!("{} {reason}", quoted(finalizer)));
            }
        }
    }

    /// The labels, with shared texts. Call [`ObjectMeta::identify`] first: it checks them.
    pub(crate) fn shared_labels(&self, cx: &mut Context<'_>) -> Labels {
        shared_labels(self.labels.as_ref(), cx)
    }
}
