//! Compiles the protos with protox, so that no protoc is needed, and writes the encoded descriptors for reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTOS: &[&str] = &[
    "portcullis/v1/audit_service.proto",
    "portcullis/v1/check_service.proto",
    "portcullis/v1/error_reason.proto",
    "portcullis/v1/fleet_service.proto",
    "portcullis/v1/key_service.proto",
    "portcullis/v1/workspace_service.proto",
    "portcullis/store/v1/record.proto",
    "portcullis/extauthz/v1/request.proto",
    "envoy/service/auth/v3/external_auth.proto",
];
/// Packages that are no part of the API: reflection shows none of them.
const INTERNAL: &[&str] = &["portcullis.store.v1", "portcullis.extauthz.v1"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(PROTOS)?;
    let descriptors = compiler.file_descriptor_set();

    let mut public = descriptors.clone();
    public
        .file
        .retain(|file| !INTERNAL.contains(&file.package()));
    for file in &mut public.file {
        file.source_code_info = None;
    }
    fs::write(out.join("portcullis.v1.bin"), public.encode_to_vec())?;

    tonic_prost_build::configure()
        .btree_map(".")
        // These carry secrets; src/proto.rs writes their Debug by hand.
        .skip_debug([
            ".portcullis.v1.IssuedKey",
            ".portcullis.v1.CheckRequest",
            ".portcullis.extauthz.v1.Entry",
            ".portcullis.extauthz.v1.HttpRequest",
            ".portcullis.extauthz.v1.HeaderValue",
            ".envoy.service.auth.v3.AttributeContext.HttpRequest",
        ])
        // What is not copied out of a request need not be wiped.
        .bytes(".portcullis.extauthz.v1")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .compile_fds(descriptors)?;
    Ok(())
}
