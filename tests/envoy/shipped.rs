//! The files of `deploy/envoy`, by Envoy's own judgement.

use crate::harness::{Config, validate};

#[test]
fn every_shipped_file_is_valid() {
    let Ok(output) = validate(&Config::shipped("envoy.yaml")) else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
}
