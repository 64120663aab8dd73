//! `portcullis key update`.

use clap::{Args, ValueEnum};
use prost_types::FieldMask;

use super::{Call, NAMING, read, show};
use crate::{
    cli::{
        change_flags::ChangeFlags,
        expires,
        failure::Failure,
        key_ref::Guarded,
        values::{parse_ip, parse_item, parse_label, parse_setting},
    },
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
    /// Gives this setting a value and leaves the others (with --clear settings: these become the only ones); may be
    /// repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    setting: Vec<(String, String)>,
    /// Takes this setting's value away and leaves the others; may be repeated
    #[arg(long, value_name = "NAME")]
    remove_setting: Vec<String>,
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
    #[command(flatten)]
    change: ChangeFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Field {
    Name,
    Description,
    Permissions,
    Ips,
    Settings,
    Labels,
}

pub(super) async fn run(args: UpdateArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let name = call.name(&args.key)?;
    args.change.allow_expiry(args.expires.as_deref())?;
    let Change {
        mut key,
        paths,
        note,
        settings,
        labels,
        flags,
    } = Change::new(args, &call)?;
    if let Some(note) = note {
        call.console.notice(&format!("note: {note}"));
    }
    let client = call.connect().await?;
    key.name = name.to_string();
    if settings.is_some() || labels.is_some() {
        // The call replaces all of them, so the others are read first; the etag holds it to what was read.
        let current = read(&client, &name).await?;
        key.etag = flags.etag_after_reading(current.etag);
        if let Some(edit) = settings {
            key.settings = edit.apply(current.settings.into_iter());
        }
        if let Some(edit) = labels {
            key.labels = edit.apply(current.labels.into_iter());
        }
    } else {
        key.etag = flags.etag();
    }
    let request = UpdateKeyRequest {
        key: Some(key),
        update_mask: Some(FieldMask { paths }),
        request_id: flags.request_id(),
    };
    let key = client.keys().update_key(request).await?.into_inner();
    show::key(&key, call.client.output, call.console)
}

/// The request, but for what has to be read first.
struct Change {
    key: Key,
    paths: Vec<String>,
    note: Option<String>,
    /// What to do to the settings that the key has. `None`: they need not be read.
    settings: Option<Edit>,
    /// As `settings`, of the labels.
    labels: Option<Edit>,
    flags: ChangeFlags,
}

/// What to do to names and values that are there.
struct Edit {
    set: Vec<(String, String)>,
    remove: Vec<String>,
}

impl Edit {
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

    /// Splits what was asked for: the values that replace all others, or the edit of those there are.
    fn split(
        set: Vec<(String, String)>,
        remove: Vec<String>,
        clear: bool,
    ) -> (Vec<(String, String)>, Option<Self>) {
        if clear || (set.is_empty() && remove.is_empty()) {
            (set, None)
        } else {
            (Vec::new(), Some(Self { set, remove }))
        }
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
                Field::Settings,
                "settings",
                "--remove-setting",
                !args.remove_setting.is_empty(),
            ),
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
            // Setting some contradicts nothing: after --clear they are the only ones.
            let sets = match field {
                Field::Settings => !args.setting.is_empty(),
                Field::Labels => !args.label.is_empty(),
                Field::Name | Field::Description | Field::Permissions | Field::Ips => false,
            };
            if given || clear || sets {
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
        let clears = |field| args.clear.contains(&field);
        let (settings, setting_edit) =
            Edit::split(args.setting, args.remove_setting, clears(Field::Settings));
        let (labels, label_edit) =
            Edit::split(args.label, args.remove_label, clears(Field::Labels));
        if setting_edit.is_some() {
            args.change.allow_reading("--setting or --remove-setting")?;
        }
        if label_edit.is_some() {
            args.change.allow_reading("--label or --remove-label")?;
        }
        let key = Key {
            display_name: args.name.unwrap_or_default(),
            description: args.description.unwrap_or_default(),
            permissions: args.permission,
            ip_allowlist: args.ip,
            settings: settings.into_iter().collect(),
            labels: labels.into_iter().collect(),
            expire_time: expiry.as_ref().map(expires::Expiry::to_proto),
            ..Key::default()
        };
        Ok(Self {
            key,
            paths,
            note: expiry.and_then(|expiry| expiry.note),
            settings: setting_edit,
            labels: label_edit,
            flags: args.change,
        })
    }
}
