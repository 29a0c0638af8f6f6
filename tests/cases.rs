//! What every door must answer alike: the cases of `cases/*.json`, through the Rust library.
//! Each other language has a runner of its own.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod names {
    use agnes_core::{
        AttachAlias, ExtensionName, ExternalName, SourceName, TableName, TokenEnv, ViewName,
    };

    #[derive(serde::Deserialize)]
    struct NameCase {
        text: String,
        strict: bool,
        view: bool,
        external: bool,
        env: bool,
    }

    #[test]
    fn every_kind_of_name() {
        let cases: Vec<NameCase> = serde_json::from_str(include_str!("cases/names.json")).unwrap();
        assert!(cases.len() > 50);
        for case in cases {
            let text = case.text.as_str();
            for (kind, expected, parsed) in [
                ("source", case.strict, SourceName::parse(text).err()),
                ("table", case.strict, TableName::parse(text).err()),
                ("alias", case.strict, AttachAlias::parse(text).err()),
                ("extension", case.strict, ExtensionName::parse(text).err()),
                ("view", case.view, ViewName::parse(text).err()),
                ("external", case.external, ExternalName::parse(text).err()),
                ("env", case.env, TokenEnv::parse(text).err()),
            ] {
                assert_eq!(parsed.is_none(), expected, "{text:?} as {kind}: {parsed:?}");
                // What refuses it can be shown on a terminal.
                if let Some(error) = parsed {
                    assert!(!error.message().chars().any(char::is_control), "{error}");
                }
            }
        }
    }
}
