//! Observability and tools.

use crate::spec::{Spec, named, token};

const UUID: &str = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";

pub(super) fn rules() -> Vec<Spec> {
    vec![
        token("grafana-service-account-token", "Grafana token", r"glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}", &["glsa_"]),
        token("grafana-service-account-token", "Grafana Cloud token", r"glc_[A-Za-z0-9+/]{32,}={0,3}", &["glc_"]),
        token("grafana-service-account-token", "Grafana API key", r"eyJrIjoi[A-Za-z0-9]{70,}={0,3}", &["eyjrijoi"]),
        token("sentry-user-token", "Sentry user token", r"sntryu_[a-f0-9]{64}", &["sntryu_"]),
        token("sentry-user-token", "Sentry organization token", r"sntrys_[A-Za-z0-9+/=_\-]{60,}", &["sntrys_"]),
        named(
            "datadog-access-token",
            "Datadog key",
            "datadog|dd[_-](?:api|app|application|client)[_-]",
            &["datadog", "dd_", "dd-"],
            "[a-f0-9]{32}|[a-f0-9]{40}|[A-Za-z0-9]{40}",
        )
        .judged(),
        token("datadog-access-token", "Datadog client token", r"pub[a-f0-9]{32}", &["pub"]),
        token(
            "datadog-access-token",
            "Datadog access token",
            r"dd(?:pat|sat|app|apikey)_[A-Za-z0-9_\-]{24,}",
            &["ddpat_", "ddsat_", "ddapp_", "ddapikey_"],
        ),
        token(
            "new-relic-user-api-key",
            "New Relic key",
            r"NR(?:AK|AA|II|RA|IQ|SP|JS|LI|BR)-[A-Za-z0-9_\-]{18,64}",
            &["nrak-", "nraa-", "nrii-", "nrra-", "nriq-", "nrsp-", "nrjs-", "nrli-", "nrbr-"],
        ),
        token("new-relic-user-api-key", "New Relic licence key", r"[a-f0-9]{36}NRAL", &["nral"]).up_to(48),
        token("dynatrace-api-token", "Dynatrace token", r"dt0[a-z][0-9]{2}\.[A-Z0-9]{8,24}\.[A-Z0-9]{64}", &["dt0"]),
        token("sonar-api-token", "SonarQube token", r"sq[upa]_[a-f0-9]{40}", &["squ_", "sqp_", "sqa_"]),
        named("sonar-api-token", "SonarQube token, older form", "sonar", &["sonar"], "[a-f0-9]{40}").judged(),
        token("snyk-api-token", "Snyk token", r"snyk_(?:uat|sat)\.[a-f0-9]{8}\.[A-Za-z0-9_\-.]{20,}", &["snyk_"]),
        named("snyk-api-token", "Snyk token", "snyk", &["snyk"], UUID),
        token(
            "launchdarkly-sdk-key",
            "LaunchDarkly key",
            &format!("(?:sdk|api|mob)-{UUID}"),
            &["sdk-", "api-", "mob-"],
        ),
        token("linear-api-key", "Linear key", r"lin_(?:api|oauth)_[A-Za-z0-9]{32,64}", &["lin_api_", "lin_oauth_"]),
        token("notion-api-token", "Notion token", r"ntn_[0-9]{8,14}[A-Za-z0-9]{30,40}", &["ntn_"]),
        token("notion-api-token", "Notion token, older form", r"secret_[A-Za-z0-9]{43}", &["secret_"]).entropy(3.8),
        token("airtable-personal-access-token", "Airtable token", r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}", &["pat"]),
        named(
            "airtable-personal-access-token",
            "Airtable key, older form",
            "airtable",
            &["airtable"],
            "key[A-Za-z0-9]{14}",
        )
        .judged(),
        token("postman-api-token", "Postman key", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}", &["pmak-"]),
        token(
            "figma-pat",
            "Figma token",
            r"fig(?:d|u|or|oh|o|h)_[A-Za-z0-9_\-]{36,64}",
            &["figd_", "figu_", "figor_", "figoh_", "figo_", "figh_"],
        ),
        named(
            "figma-pat",
            "Figma token, older form",
            "figma",
            &["figma"],
            "[0-9]{5,8}-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        ),
        token("okta-access-token", "Okta token", r"SSWS[ \t]{1,2}(00[A-Za-z0-9_\-]{39,42})", &["ssws"]).groups(&[1]),
        named(
            "okta-access-token",
            "Okta token",
            "okta",
            &["okta"],
            r"00[A-Za-z0-9_\-]{40}|[0-9]0[A-Za-z0-9_\-]{39,41}",
        )
        .judged(),
        token(
            "sentry-user-token",
            "Asana, Asaas and PostHog keys",
            r"(?:phc_[A-Za-z0-9]{43}|phx_[A-Za-z0-9]{43,48})",
            &["phc_", "phx_"],
        ),
        named("sentry-user-token", "Sentry token, older form", "sentry", &["sentry"], "[a-f0-9]{64}").judged(),
    ]
}
