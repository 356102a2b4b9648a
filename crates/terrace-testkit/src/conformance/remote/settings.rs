//! What all nodes of a namespace have to share.

use super::Bench;
use terrace_core::RemoteError;
use terrace_core::codec::CodecId;
use terrace_core::remote::SharedSettings;

fn codec(id: CodecId, name: &str) -> SharedSettings {
    SharedSettings { codec: Some((id, name.to_owned())) }
}

impl Bench<'_> {
    async fn open(&self, settings: &SharedSettings) -> Result<(), String> {
        self.remote.open_with(&self.namespace, settings).await.map_err(|error| {
            assert!(matches!(error, RemoteError::Mismatch { .. }), "{error}");
            error.to_string()
        })
    }
}

pub(super) async fn the_first_node_decides_and_others_have_to_agree(bench: Bench<'_>) {
    let (json, postcard) = (codec(CodecId::JSON, "json"), codec(CodecId::POSTCARD, "postcard"));
    // It was opened by somebody who said nothing of codecs, as earlier releases did.
    for _ in 0..2 {
        assert_eq!(bench.open(&json).await, Ok(()));
    }
    let refusal = bench.open(&postcard).await.expect_err("another codec");
    for part in [bench.namespace.as_str(), "`json`", "`postcard`", "forget-settings"] {
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
    assert!(bench.open(&codec(CodecId::JSON, "theirs")).await.is_err(), "the number alone says too little");
    assert_eq!(bench.open(&SharedSettings::default()).await, Ok(()));
    bench.remote.forget_settings(&bench.namespace).await.expect("they are forgotten");
    assert_eq!(bench.open(&postcard).await, Ok(()));
    assert!(bench.open(&json).await.is_err());
}

pub(super) async fn who_is_refused_has_written_nothing(bench: Bench<'_>) {
    bench.remote.forget_settings(&bench.namespace).await.expect("they are forgotten");
    assert_eq!(bench.open(&codec(CodecId(200), "ours")).await, Ok(()));
    for other in [codec(CodecId(200), "theirs"), codec(CodecId(201), "ours"), codec(CodecId(201), "theirs")] {
        assert!(bench.open(&other).await.is_err());
    }
    assert_eq!(bench.open(&codec(CodecId(200), "ours")).await, Ok(()));
}
