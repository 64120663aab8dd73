//! Messages as Envoy sends them, or as nobody does. See `../properties/ext_authz.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "what tests ask besides")]
#[path = "../properties/ext_authz.rs"]
mod property;

fuzz_target!(|data: &[u8]| property::check(data));
