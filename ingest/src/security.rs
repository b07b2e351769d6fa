//! Client settings that would show a password or records to others on the way, and those that this build cannot serve.

use rdkafka::config::ClientConfig;

use crate::client::ClientSettings;
use crate::error::Error;

/// What to do without TLS in the client.
const NO_TLS: &str = "needs TLS, which this build of Puddle has not: let a TLS proxy on this machine, such as stunnel, carry \
                      the connection, or build Puddle with the feature `ssl` of rdkafka ([workspace.dependencies] of \
                      Cargo.toml)";

/// The mechanisms of SASL, and the features of librdkafka that they need. The first is its default.
const MECHANISMS: [(&str, &str); 5] = [
    ("GSSAPI", "sasl_gssapi"),
    ("PLAIN", "sasl_plain"),
    ("SCRAM-SHA-256", "sasl_scram"),
    ("SCRAM-SHA-512", "sasl_scram"),
    ("OAUTHBEARER", "sasl_oauthbearer"),
];

impl ClientSettings {
    /// Checks that no setting shows a password, or whom we talk to, to others on the network.
    ///
    /// # Errors
    /// [`Error::Insecure`], which names the setting and never its value.
    pub fn check_secure(&self) -> Result<(), Error> {
        let is = |key: &str, values: &[&str]| {
            self.get(key).is_some_and(|value| values.iter().any(|v| v.eq_ignore_ascii_case(value)))
        };
        let insecure = |key: &'static str, why| Err(Error::Insecure { key, why });
        // librdkafka's three ways to say so.
        const OFF: &[&str] = &["false", "f", "0"];
        const ON: &[&str] = &["true", "t", "1"];
        if is("security.protocol", &["sasl_plaintext"]) {
            return insecure("security.protocol", "sends the password, and all records, unencrypted");
        }
        if is("enable.ssl.certificate.verification", OFF) {
            return insecure("enable.ssl.certificate.verification", "lets anybody pass for the broker");
        }
        if is("ssl.endpoint.identification.algorithm", &["none"]) {
            return insecure(
                "ssl.endpoint.identification.algorithm",
                "lets whoever has a certificate for any host pass for the broker",
            );
        }
        if is("enable.sasl.oauthbearer.unsecure.jwt", ON) {
            return insecure(
                "enable.sasl.oauthbearer.unsecure.jwt",
                "makes up a token that nobody has signed",
            );
        }
        Ok(())
    }

    /// Checks that the client was built with what the settings need; what it would say itself helps nobody on.
    pub(crate) fn check_supported(&self) -> Result<(), Error> {
        let protocol = self.get("security.protocol").unwrap_or_default().to_ascii_lowercase();
        let with_tls = matches!(&*protocol, "ssl" | "sasl_ssl").then_some("security.protocol");
        let of_tls = self.keys().find(|key| key.starts_with("ssl.") || key.starts_with("enable.ssl."));
        let features = features();
        if let Some(key) = with_tls.or(of_tls)
            && !features.iter().any(|feature| feature == "ssl")
        {
            return Err(Error::Setting { key: key.to_owned(), reason: NO_TLS.to_owned() });
        }
        if !protocol.starts_with("sasl_") {
            return Ok(());
        }
        let mechanism =
            self.get("sasl.mechanism").or_else(|| self.get("sasl.mechanisms")).unwrap_or(MECHANISMS[0].0);
        let needed = MECHANISMS.iter().find(|(name, _)| name.eq_ignore_ascii_case(mechanism));
        let has = |needed: &str| features.iter().any(|feature| feature == needed);
        if needed.is_some_and(|(_, feature)| !has(feature)) {
            let able: Vec<&str> =
                MECHANISMS.iter().filter(|(_, feature)| has(feature)).map(|(name, _)| *name).collect();
            let reason = format!(
                "is, or defaults to, a mechanism that this build of Puddle has not: it has {}",
                able.join(", ")
            );
            return Err(Error::Setting { key: "sasl.mechanism".to_owned(), reason });
        }
        Ok(())
    }
}

/// What librdkafka was built with.
fn features() -> Vec<String> {
    let native = ClientConfig::new().create_native_config();
    let listed = native.and_then(|native| native.get("builtin.features")).unwrap_or_default();
    listed.split(',').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(settings: &[(&str, &str)]) -> ClientSettings {
        ClientSettings::new(settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    /// Fault matrix 48.
    #[test]
    fn what_shows_a_password_or_trusts_anybody_is_insecure() {
        for (key, value) in [
            ("security.protocol", "sasl_plaintext"),
            ("security.protocol", "SASL_PLAINTEXT"),
            ("enable.ssl.certificate.verification", "false"),
            ("enable.ssl.certificate.verification", "F"),
            ("enable.ssl.certificate.verification", "0"),
            ("ssl.endpoint.identification.algorithm", "none"),
            ("ssl.endpoint.identification.algorithm", "None"),
            ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ] {
            let error = settings(&[(key, value), ("sasl.password", "hunter2")]).check_secure().unwrap_err();
            assert!(matches!(error, Error::Insecure { .. }) && error.is_usage(), "{key}={value}: {error}");
            let text = error.to_string();
            assert!(text.contains(key) && text.contains("allow_insecure"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn what_is_protected_or_has_nothing_to_hide_is_not() {
        for (key, value) in [
            ("security.protocol", "plaintext"),
            ("security.protocol", "sasl_ssl"),
            ("enable.ssl.certificate.verification", "true"),
            ("ssl.endpoint.identification.algorithm", "https"),
            ("fetch.wait.max.ms", "100"),
        ] {
            settings(&[(key, value)]).check_secure().unwrap();
        }
    }

    #[test]
    fn what_librdkafka_was_not_built_with_is_said_before_it_is_asked() {
        assert!(features().iter().any(|feature| feature == "sasl_plain"), "{:?}", features());
        settings(&[("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "plain")])
            .check_supported()
            .unwrap();
        if features().iter().any(|feature| feature == "ssl") {
            return;
        }
        for (key, value, what) in [
            ("security.protocol", "ssl", "stunnel"),
            ("security.protocol", "SASL_SSL", "stunnel"),
            ("ssl.ca.location", "/ca.pem", "stunnel"),
            ("enable.ssl.certificate.verification", "true", "stunnel"),
        ] {
            let error = settings(&[(key, value)]).check_supported().unwrap_err();
            assert!(error.is_usage(), "{error}");
            assert!(error.to_string().contains(key) && error.to_string().contains(what), "{error}");
        }
        for mechanism in [None, Some("SCRAM-SHA-512"), Some("GSSAPI")] {
            let mut asked = settings(&[("security.protocol", "sasl_plaintext")]);
            asked = mechanism.into_iter().fold(asked, |asked, name| asked.or("sasl.mechanisms", name));
            let error = asked.check_supported().unwrap_err().to_string();
            assert!(error.contains("sasl.mechanism") && error.contains("it has PLAIN"), "{error}");
        }
    }
}
