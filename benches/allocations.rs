//! How often a check goes to the allocator.
//!
//! `cargo bench --bench allocations`. Exact, so it is the same on any machine; it ends with an error if an answer costs more
//! than the memory that it is made of. A bench of its own, since counting would slow the others down.

use std::process::ExitCode;

use allocation_counter::measure;
use portcullis::domain::decision::Reason;
use support::gate::{Gate, Issued, question};

#[expect(dead_code, reason = "nothing is timed here")]
mod support;

fn main() -> ExitCode {
    let mut gate = Gate::new();
    let issued = Issued::new();
    gate.put(&issued);
    let token = issued.token();
    let wrong = issued.wrong_token();
    let (held, not_held) = (["sms.send".to_owned()], ["sms.delete".to_owned()]);
    let labels = ["team".to_owned()];
    let asked = |credential, permissions| question(credential, permissions);
    let mut with_label = asked(token.expose(), &held);
    with_label.labels = &labels;

    println!(
        "| answer | allocations | … of the answer itself | bytes | … of the answer itself |\n|---|---|---|---|---|"
    );
    let mut is_lean = true;
    for (name, question, reason) in [
        ("OK", asked(token.expose(), &held), Reason::Ok),
        ("OK, with a label", with_label, Reason::Ok),
        (
            "PERMISSION_DENIED",
            asked(token.expose(), &not_held),
            Reason::PermissionDenied,
        ),
        (
            "INVALID_CREDENTIAL, wrong secret",
            asked(wrong.expose(), &held),
            Reason::InvalidCredential,
        ),
        (
            "INVALID_CREDENTIAL, none",
            asked("", &held),
            Reason::InvalidCredential,
        ),
    ] {
        // Proves the secret, and whatever else is made once.
        assert_eq!(gate.check(&question).reason, reason);
        let mut answer = None;
        let check = measure(|| answer = Some(gate.check(&question)));
        // A copy takes what the answer holds and nothing else.
        let copy = measure(|| drop(answer.clone()));
        println!(
            "| {name} | {} | {} | {} | {} |",
            check.count_total, copy.count_total, check.bytes_total, copy.bytes_total
        );
        is_lean &= check.count_total == copy.count_total;
    }
    if is_lean {
        ExitCode::SUCCESS
    } else {
        eprintln!("a check goes to the allocator more often than its answer takes");
        ExitCode::FAILURE
    }
}
