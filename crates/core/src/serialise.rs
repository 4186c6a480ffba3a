//! The feature `serde`: what the derived code cannot say.
//!
//! Validated types go through their text or their constructor and are checked on the way in. Unknown fields are refused
//! everywhere, so that a misspelt condition never becomes a wider rule.

mod errors;
mod ir;

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use serde::de::{Error as _, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ir::form;
use crate::label::{Labels, Name};
use crate::model::{Cluster, EntityKinds, Order, PortRange, Update};
use crate::net::{Cidr, canonical};
use crate::packet::{HttpRequest, Icmp, Packet, Protocol};
use crate::quote::quoted;
use crate::selector::{Expr, Selector};

/// A value from its text.
fn parsed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

macro_rules! through_text {
    ($($type:ty),* $(,)?) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                parsed(deserializer)
            }
        }
    )*};
}

// As `10.0.0.0/8`; as Calico's selector language; as `80` or `8000:8080`.
through_text!(Cidr, Selector, PortRange);

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// A map of keys to values.
impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// A key that stands twice is refused.
impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of label keys to values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = Labels::new();
                while let Some((key, value)) = map.next_entry::<Name, Name>()? {
                    if labels.value(&key).is_some() {
                        return Err(A::Error::custom(format_args!(
                            "the label {} stands there twice",
                            quoted(&key)
                        )));
                    }
                    labels.insert(key, value);
                }
                Ok(labels)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// An order is a number, or the text of one: readers of JSON may round a number in the last digit, and then two orders
/// could become equal.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OrderForm {
    Number(f64),
    Text(String),
}

/// Up to here every whole number is a number of its own in every reader: two to the power of 53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// In formats for people a whole number stands there as a number, any other order as its text (`"10.5"`, `"inf"`).
impl Serialize for Order {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = self.value();
        let is_exact = value % 1.0 == 0.0 && value.abs() <= EXACT;
        if is_exact || !serializer.is_human_readable() {
            serializer.serialize_f64(value)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for Order {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = if deserializer.is_human_readable() {
            match OrderForm::deserialize(deserializer)? {
                OrderForm::Number(value) => value,
                OrderForm::Text(text) => text
                    .parse()
                    .map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &"the text of a number"))?,
            }
        } else {
            f64::deserialize(deserializer)?
        };
        Self::new(value).ok_or_else(|| D::Error::invalid_value(Unexpected::Float(value), &"a number"))
    }
}

/// The names of kinds of objects.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KindName {
    Workload,
    Host,
    NetworkSet,
    Node,
}

const KINDS: [(KindName, EntityKinds); 4] = [
    (KindName::Workload, EntityKinds::WORKLOAD),
    (KindName::Host, EntityKinds::HOST),
    (KindName::NetworkSet, EntityKinds::NETWORK_SET),
    (KindName::Node, EntityKinds::NODE),
];

/// A list of `workload`, `host`, `network-set` and `node`.
impl Serialize for EntityKinds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names: Vec<KindName> =
            KINDS.iter().filter(|(_, kind)| self.contains(*kind)).map(|(name, _)| *name).collect();
        names.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EntityKinds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kind = |name: KindName| match name {
            KindName::Workload => Self::WORKLOAD,
            KindName::Host => Self::HOST,
            KindName::NetworkSet => Self::NETWORK_SET,
            KindName::Node => Self::NODE,
        };
        let names = Vec::<KindName>::deserialize(deserializer)?;
        Ok(names.into_iter().map(kind).fold(Self::NONE, Self::union))
    }
}

/// An expression is a selector when the language has a text for it, and the words of the IR's text form otherwise: the
/// language has no labels of namespaces and service accounts.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ExprForm {
    Selector(String),
    Form(String),
}

/// `{"selector": "app == \"web\""}` or `{"form": "eq namespace \"env\" \"prod\""}`.
impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Selector::new(self.clone()).to_string();
        if Selector::parse(&text).is_ok_and(|selector| selector.expr() == self) {
            return ExprForm::Selector(text).serialize(serializer);
        }
        let text = form::ExprText(self).to_string();
        // What could not be read back is not written.
        form::parse_expr(&text).map_err(serde::ser::Error::custom)?;
        ExprForm::Form(text).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Expr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match ExprForm::deserialize(deserializer)? {
            ExprForm::Selector(text) => {
                Selector::parse(&text).map(Selector::into_expr).map_err(D::Error::custom)
            }
            ExprForm::Form(text) => form::parse_expr(&text).map_err(D::Error::custom),
        }
    }
}

/// The list of updates that make it.
impl Serialize for Cluster {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.updates())
    }
}

/// A removal and a second object of one identity are refused: the list says what is there, not what happened.
impl<'de> Deserialize<'de> for Cluster {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut cluster = Self::new();
        for (at, update) in Vec::<Update>::deserialize(deserializer)?.into_iter().enumerate() {
            if is_removal(&update) {
                return Err(D::Error::custom(format_args!(
                    "entry {at} of the cluster, counted from 0, removes an object"
                )));
            }
            cluster.apply(update);
            // Every entry before was an object of its own, so this one is too exactly if the count follows.
            if count(&cluster) != at + 1 {
                return Err(D::Error::custom(format_args!(
                    "entry {at} of the cluster, counted from 0, has the identity of an entry before it"
                )));
            }
        }
        Ok(cluster)
    }
}

const fn is_removal(update: &Update) -> bool {
    match update {
        Update::Policy(_)
        | Update::Tier(_)
        | Update::Profile(_)
        | Update::Endpoint(_)
        | Update::NetworkSet(_)
        | Update::Namespace(_)
        | Update::ServiceAccount(_)
        | Update::Node(_)
        | Update::Service(_) => false,
        Update::RemovePolicy(_)
        | Update::RemoveTier(_)
        | Update::RemoveProfile(_)
        | Update::RemoveEndpoint(_)
        | Update::RemoveNetworkSet(_)
        | Update::RemoveNamespace(_)
        | Update::RemoveServiceAccount(..)
        | Update::RemoveNode(_)
        | Update::RemoveService(_) => true,
    }
}

/// How many objects there are.
fn count(cluster: &Cluster) -> usize {
    let owners = cluster.endpoints().len() + cluster.network_sets().len() + cluster.nodes().len();
    let inherited = cluster.namespaces().len() + cluster.service_accounts().len() + cluster.services().len();
    owners + inherited + cluster.policies().len() + cluster.tiers().len() + cluster.profiles().len()
}

/// The fields of a [`Packet`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Packet", deny_unknown_fields)]
struct PacketForm {
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    source_port: u16,
    destination_port: u16,
    icmp: Option<Icmp>,
    principal: Option<Name>,
    http: Option<HttpRequest>,
}

impl Serialize for Packet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        PacketForm::serialize(self, serializer)
    }
}

/// Addresses are made [`canonical`]; two families in one packet are refused.
impl<'de> Deserialize<'de> for Packet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let packet = PacketForm::deserialize(deserializer)?;
        let packet =
            Self { source: canonical(packet.source), destination: canonical(packet.destination), ..packet };
        if packet.source.is_ipv4() != packet.destination.is_ipv4() {
            return Err(D::Error::custom("source and destination are of two families"));
        }
        Ok(packet)
    }
}
