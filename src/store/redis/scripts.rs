//! The scripts, by which everything is written.

/// A script: its flags, what all have in common, and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Script {
    /// For messages.
    pub(super) name: &'static str,
    /// What the server is given.
    pub(super) text: &'static str,
}

macro_rules! script {
    ($name:literal, $flags:literal) => {
        Script {
            name: $name,
            text: concat!(
                "#!lua ",
                $flags,
                "\n",
                include_str!("scripts/prelude.lua"),
                include_str!(concat!("scripts/", $name, ".lua"))
            ),
        }
    };
}

/// Writes a batch that opens nothing to anyone, also when the server's memory is full.
pub(super) const TIGHTEN: Script = script!("commit", "flags=allow-oom");
/// Writes any batch.
pub(super) const COMMIT: Script = script!("commit", "");
/// Renews a member's lease.
pub(super) const RENEW: Script = script!("renew", "flags=allow-oom");
/// Takes a silent member out.
pub(super) const REMOVE: Script = script!("remove", "flags=allow-oom");
/// Takes the asking member out.
pub(super) const LEAVE: Script = script!("leave", "flags=allow-oom");
/// Reads where the store stands, and its members.
pub(super) const ROLL: Script = script!("roll", "flags=no-writes");
/// Reads a part of the log.
pub(super) const LOG: Script = script!("log", "flags=no-writes");
/// Reads what is known of a mutation.
pub(super) const KNOWN: Script = script!("known", "flags=no-writes");
/// Opens an epoch.
pub(super) const OPEN_EPOCH: Script = script!("open_epoch", "flags=allow-oom");
/// Makes a store.
pub(super) const INIT: Script = script!("init", "");
