//! `portcullis key update`.

use clap::{Args, ValueEnum};
use prost_types::FieldMask;

use super::{Call, NAMING, parse_ip, parse_item, parse_label, read, show};
use crate::{
    cli::{expires, failure::Failure, key_ref::Guarded},
    proto::v1::{Key, UpdateKeyRequest},
};

#[derive(Debug, Args)]
#[command(after_help = NAMING)]
pub(super) struct UpdateArgs {
    /// The key
    pub(super) key: Guarded,
    /// The new name for people
    #[arg(long)]
    name: Option<String>,
    /// What the key is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// All that the key may do, in place of what it may now; may be repeated, and hold several between commas
    #[arg(long, short, value_name = "P", value_delimiter = ',', value_parser = parse_item)]
    permission: Vec<String>,
    /// All addresses and CIDR blocks it may be used from, in place of those it has; repeats as --permission
    #[arg(long, value_name = "IP", value_delimiter = ',', value_parser = parse_ip)]
    ip: Vec<String>,
    /// Sets this label and leaves the others (with --clear labels: these become the only ones); may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,
    /// Removes this label and leaves the others; may be repeated
    #[arg(long, value_name = "NAME")]
    remove_label: Vec<String>,
    /// When the key stops working, as in `key create`
    #[arg(
        long,
        value_name = "WHEN",
        conflicts_with = "no_expiry",
        allow_hyphen_values = true
    )]
    expires: Option<String>,
    /// Lets the key never expire, as --expires never does
    #[arg(long)]
    no_expiry: bool,
    /// Empties a field: without permissions the key may do nothing, without ips it may be used from anywhere; may be
    /// repeated, and hold several between commas
    #[arg(long, value_name = "FIELD", value_delimiter = ',', value_enum)]
    clear: Vec<Field>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Field {
    Name,
    Description,
    Permissions,
    Ips,
    Labels,
}

pub(super) async fn run(args: UpdateArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let name = call.name(&args.key)?;
    let change = Change::new(args, &call)?;
    if let Some(note) = &change.note {
        call.console.notice(&format!("note: {note}"));
    }
    let client = call.connect().await?;
    let Change {
        mut key,
        paths,
        labels,
        ..
    } = change;
    key.name = name.to_string();
    if let Some(labels) = labels {
        // The call replaces all labels, so the others are read first; the etag holds it to what was read.
        let current = read(&client, &name).await?;
        key.etag = current.etag;
        key.labels = labels.apply(current.labels.into_iter());
    }
    let request = UpdateKeyRequest {
        key: Some(key),
        request_id: String::new(),
        update_mask: Some(FieldMask { paths }),
    };
    let key = client.keys().update_key(request).await?.into_inner();
    show::key(&key, call.client.output, call.console)
}

/// The request, but for what has to be read first.
struct Change {
    key: Key,
    paths: Vec<String>,
    note: Option<String>,
    /// What to do to the labels that the key has. `None`: they need not be read.
    labels: Option<LabelEdit>,
}

struct LabelEdit {
    set: Vec<(String, String)>,
    remove: Vec<String>,
}

impl LabelEdit {
    fn apply<C: FromIterator<(String, String)>>(
        self,
        current: impl Iterator<Item = (String, String)>,
    ) -> C {
        let Self { set, remove } = self;
        current
            .filter(|(name, _)| !remove.contains(name))
            .chain(set)
            .collect()
    }
}

impl Change {
    fn new(args: UpdateArgs, call: &Call<'_, '_>) -> Result<Self, Failure> {
        let mut paths = Vec::new();
        for (field, path, flag, given) in [
            (Field::Name, "display_name", "--name", args.name.is_some()),
            (
                Field::Description,
                "description",
                "--description",
                args.description.is_some(),
            ),
            (
                Field::Permissions,
                "permissions",
                "--permission",
                !args.permission.is_empty(),
            ),
            (Field::Ips, "ip_allowlist", "--ip", !args.ip.is_empty()),
            (
                Field::Labels,
                "labels",
                "--remove-label",
                !args.remove_label.is_empty(),
            ),
        ] {
            let clear = args.clear.contains(&field);
            if given && clear {
                return Err(Failure::Usage(format!(
                    "{flag} and --clear contradict each other"
                )));
            }
            // Setting labels contradicts nothing: after --clear they are the only ones.
            if given || clear || (field == Field::Labels && !args.label.is_empty()) {
                paths.push(path.to_owned());
            }
        }
        let edits_expiry = args.expires.is_some() || args.no_expiry;
        let expiry = args
            .expires
            .map(|text| expires::parse(&text, &call.console.now))
            .transpose();
        let expiry = expiry.map_err(|problem| {
            Failure::Usage(format!(
                "{problem} (for a key that never expires: --no-expiry)"
            ))
        });
        let expiry = expiry?.flatten();
        if edits_expiry {
            paths.push("expire_time".to_owned());
        }
        if paths.is_empty() {
            return Err(Failure::Usage(
                "nothing to change; name a field, such as --name".into(),
            ));
        }
        let edits_labels = !(args.label.is_empty() && args.remove_label.is_empty());
        let (labels, edit) = if edits_labels && !args.clear.contains(&Field::Labels) {
            (
                Vec::new(),
                Some(LabelEdit {
                    set: args.label,
                    remove: args.remove_label,
                }),
            )
        } else {
            (args.label, None)
        };
        let key = Key {
            display_name: args.name.unwrap_or_default(),
            description: args.description.unwrap_or_default(),
            permissions: args.permission,
            ip_allowlist: args.ip,
            labels: labels.into_iter().collect(),
            expire_time: expiry.as_ref().map(expires::Expiry::to_proto),
            ..Key::default()
        };
        Ok(Self {
            key,
            paths,
            note: expiry.and_then(|expiry| expiry.note),
            labels: edit,
        })
    }
}
