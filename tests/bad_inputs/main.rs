//! What may never open the gate, crash it or slip into the store: each bad input by the number that the project's list
//! of them gives it, with the exact answer that it must get.
//!
//! A row is written `row N` in what its assertion says, and `every_row_is_here_or_has_its_reason` looks for it there.

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod credential;
mod life;
mod query;
mod repeat;
mod settings;
mod write;

/// The rows that belong to the calls there are, from the first to the last of each range.
const ROWS: &[&str] = &[
    "1", "2", "6..26", "29", "29a", "29b", "29c", "57..68", "68a", "69", "70..97",
];

/// The rows that cannot be asked from outside yet, and why. The ones between the ranges above are Envoy's, the
/// wire's, a store's contents or settings, and come with those.
const NOT_HERE: &[(&str, &str)] = &[(
    "76",
    "a clock cannot be stepped back from outside; src/gate tests it on its own clock",
)];

#[test]
fn every_row_is_here_or_has_its_reason() {
    let sources = [
        include_str!("audit.rs"),
        include_str!("credential.rs"),
        include_str!("life.rs"),
        include_str!("query.rs"),
        include_str!("repeat.rs"),
        include_str!("settings.rs"),
        include_str!("write.rs"),
    ];
    let mut missing = Vec::new();
    for row in ROWS {
        let rows: Vec<String> = match row.split_once("..") {
            Some((first, last)) => {
                let number = |text: &str| text.parse::<u32>().expect("a row's number");
                (number(first)..=number(last))
                    .map(|row| row.to_string())
                    .collect()
            }
            None => vec![(*row).to_owned()],
        };
        for row in rows {
            // The character after keeps row 6 from being found in row 68.
            let named = [':', ',', ' '].iter().any(|after| {
                let wanted = format!("row {row}{after}");
                sources.iter().any(|source| source.contains(&wanted))
            });
            if !named && !NOT_HERE.iter().any(|(excused, _)| *excused == row) {
                missing.push(row);
            }
        }
    }
    assert!(
        missing.is_empty(),
        "rows without a test or a reason: {missing:?}"
    );
}

/// Asserts that the store stands where it stood: what is refused changes nothing, and says so in no event.
async fn unchanged(what: &str, gate: &support::Clients, before: &str) {
    assert_eq!(
        gate.revision().await,
        before,
        "{what}: something was written"
    );
}

/// What every row relies on: a refusal that names another field, too, is not the one that was asked for.
#[test]
#[should_panic(expected = "key.labels is named, too")]
fn a_field_named_without_reason_is_seen() {
    use portcullis::proto::v1::ErrorReason;
    use tonic::{Code, Response, Status};
    use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

    let reason = ErrorReason::InvalidField;
    let mut details = ErrorDetails::with_error_info(reason.as_str_name(), "portcullis.dev", []);
    let violation = |field: &str| FieldViolation::new(field, "is wrong");
    details.set_bad_request(vec![violation("key.name"), violation("key.labels")]);
    let status = Status::with_error_details(Code::InvalidArgument, "wrong", details);
    let result: Result<Response<()>, Status> = Err(status);
    let (what, code) = ("two fields", Code::InvalidArgument);
    support::assert_refused(what, result, code, reason, &["key.name"]);
}
