//! Every kind of secret of the measure: the format of its values, and the names that are used for it.

use super::encode::{base64, base64_url, percent};
use super::keys;
use super::random::Random;

/// How a value can be recognized as a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By the value itself: a prefix or a format.
    Plain,
    /// Only by a name next to the value.
    Named,
    /// Only by the contexts of this family.
    Placed,
}

pub struct Family {
    /// The usual name of the rule. Several rows may share it, one for each format.
    pub rule: &'static str,
    pub kind: Kind,
    /// Names that are used with such a value, in snake case.
    pub names: &'static [&'static str],
    pub value: fn(&mut Random) -> String,
}

const fn plain(rule: &'static str, names: &'static [&'static str], value: fn(&mut Random) -> String) -> Family {
    Family { rule, kind: Kind::Plain, names, value }
}

const fn named(rule: &'static str, names: &'static [&'static str], value: fn(&mut Random) -> String) -> Family {
    Family { rule, kind: Kind::Named, names, value }
}

const fn placed(rule: &'static str, value: fn(&mut Random) -> String) -> Family {
    Family { rule, kind: Kind::Placed, names: &["token"], value }
}

pub const FAMILIES: &[Family] = &[
    // Cloud keys.
    plain("aws-access-token", &["aws_access_key_id"], |r| {
        format!("{}{}", r.pick(&["AKIA", "AKIA", "ASIA", "ABIA", "ACCA"]), r.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16))
    }),
    named("aws-secret-access-key", &["aws_secret_access_key", "aws_secret_key", "secret_access_key"], |r| r.base64(40)),
    named("aws-session-token", &["aws_session_token", "session_token"], |r| {
        let length = r.between(75, 180) * 4;
        format!("{}{}{}", r.pick(&["IQoJb3JpZ2luX2Vj", "FwoGZXIvYXdzE"]), r.base64(length), r.pick(&["", "=", "=="]))
    }),
    plain("aws-bedrock-api-key", &["aws_bearer_token_bedrock"], |r| {
        if r.below(3) == 0 {
            let length = r.between(90, 200);
            format!("bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29tLz9BY3Rpb249{}", r.alnum(length))
        } else {
            let text = format!("BedrockAPIKey-{}-at-{}:{}", r.lower(4), r.digits(12), r.base64(44));
            format!("ABSK{}", base64(text))
        }
    }),
    plain("gcp-api-key", &["google_api_key", "gemini_api_key", "maps_api_key"], |r| {
        format!("AIzaSy{}", r.url_safe(33))
    }),
    plain("gcp-oauth-client-secret", &["google_client_secret", "client_secret"], |r| {
        format!("GOCSPX-{}", r.url_safe(28))
    }),
    placed("gcp-service-account", |r| keys::pem(r, "PRIVATE KEY").replace('\n', "\\n")),
    plain("azure-ad-client-secret", &["azure_client_secret", "arm_client_secret", "client_secret"], |r| {
        let body = r.of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_~.-", 32);
        format!("{}8Q~{body}{}", r.alnum(3), r.alnum(2))
    }),
    named("azure-storage-account-key", &["azure_storage_key", "account_key", "storage_account_key"], |r| {
        base64(r.bytes(64))
    }),
    placed("azure-sas-token", |r| percent(&base64(r.bytes(32)))),
    plain("alibaba-access-key-id", &["alibaba_cloud_access_key_id", "aliyun_access_key"], |r| {
        if r.below(3) == 0 { format!("LTAI{}", r.alnum(12)) } else { format!("LTAI5t{}", r.alnum(18)) }
    }),
    plain("digitalocean-pat", &["digitalocean_access_token", "do_token"], |r| {
        format!("{}{}", r.pick(&["dop_v1_", "dop_v1_", "doo_v1_", "dor_v1_"]), r.hex(64))
    }),
    plain("yandex-api-key", &["yandex_api_key", "yc_api_key"], |r| {
        let length = r.between(35, 37);
        format!("AQVN{}", r.url_safe(length))
    }),
    // Source hosts.
    plain("github-pat", &["github_token", "gh_token"], |r| github(r, "ghp_")),
    plain("github-fine-grained-pat", &["github_token", "github_pat"], |r| {
        format!("github_pat_11{}_{}", r.alnum(20), r.alnum(59))
    }),
    plain("github-oauth", &["github_oauth_token", "oauth_token"], |r| github(r, "gho_")),
    plain("github-app-token", &["github_app_token", "github_token"], |r| {
        let prefix = r.pick(&["ghu_", "ghs_"]);
        github(r, prefix)
    }),
    plain("github-refresh-token", &["github_refresh_token", "refresh_token"], |r| {
        if r.below(2) == 0 { github(r, "ghr_") } else { format!("ghr_{}", r.alnum(76)) }
    }),
    plain("gitlab-pat", &["gitlab_token", "gitlab_private_token"], |r| format!("glpat-{}", r.url_safe(20))),
    plain("gitlab-pat-routable", &["gitlab_token", "gitlab_access_token"], |r| {
        let length = r.between(27, 60);
        let dot = r.pick(&["", "."]);
        format!("glpat-{}.01{dot}{}", r.url_safe(length), r.lower(7))
    }),
    plain("gitlab-deploy-token", &["ci_deploy_password", "deploy_token"], |r| format!("gldt-{}", r.url_safe(20))),
    plain("gitlab-ptt", &["gitlab_trigger_token", "trigger_token"], |r| format!("glptt-{}", r.hex(40))),
    plain("gitlab-cicd-job-token", &["ci_job_token"], |r| {
        let length = r.between(1, 5);
        format!("glcbt-{}_{}", r.hex(length), r.url_safe(20))
    }),
    plain("gitlab-runner-authentication-token", &["runner_token", "ci_server_token"], |r| {
        format!("glrt-{}{}", r.pick(&["", "t1_", "t3_"]), r.url_safe(20))
    }),
    plain("atlassian-api-token", &["jira_api_token", "atlassian_token", "confluence_token"], |r| {
        format!("ATATT3xFfGF0{}={}", r.url_safe(171), r.of("0123456789ABCDEF", 8))
    }),
    named("atlassian-api-token", &["jira_api_token", "atlassian_token", "confluence_api_token"], |r| r.alnum(24)),
    // Model providers.
    plain("anthropic-api-key", &["anthropic_api_key", "claude_api_key"], |r| {
        format!("sk-ant-api03-{}AA", r.url_safe(93))
    }),
    plain("anthropic-admin-api-key", &["anthropic_admin_key"], |r| format!("sk-ant-admin01-{}AA", r.url_safe(93))),
    plain("anthropic-oauth-token", &["claude_code_oauth_token", "access_token", "refresh_token"], |r| {
        format!("sk-ant-{}-{}AA", r.pick(&["oat01", "oat01", "ort01"]), r.url_safe(93))
    }),
    plain("openai-api-key", &["openai_api_key", "codex_api_key"], |r| match r.below(4) {
        0 => format!("sk-{}T3BlbkFJ{}", r.alnum(20), r.alnum(20)),
        1 => format!("sk-svcacct-{}T3BlbkFJ{}", r.url_safe(74), r.url_safe(74)),
        2 => format!("sk-admin-{}T3BlbkFJ{}", r.url_safe(58), r.url_safe(58)),
        _ => format!("sk-proj-{}T3BlbkFJ{}", r.url_safe(74), r.url_safe(74)),
    }),
    plain("huggingface-access-token", &["hf_token", "huggingface_hub_token"], |r| {
        let body = r.of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", 34);
        format!("{}{body}", r.pick(&["hf_", "hf_", "api_org_"]))
    }),
    plain("groq-api-key", &["groq_api_key"], |r| format!("gsk_{}WGdyb3FY{}", r.alnum(20), r.alnum(24))),
    plain("perplexity-api-key", &["perplexity_api_key", "pplx_api_key"], |r| format!("pplx-{}", r.alnum(48))),
    plain("openrouter-api-key", &["openrouter_api_key"], |r| format!("sk-or-v1-{}", r.hex(64))),
    plain("xai-api-key", &["xai_api_key", "grok_api_key"], |r| format!("xai-{}", r.alnum(80))),
    plain("replicate-api-token", &["replicate_api_token"], |r| format!("r8_{}", r.alnum(37))),
    plain("deepseek-api-key", &["deepseek_api_key"], |r| format!("sk-{}", r.hex(32))),
    plain("langsmith-api-key", &["langsmith_api_key", "langchain_api_key"], |r| {
        format!("lsv2_{}_{}_{}", r.pick(&["pt", "sk"]), r.hex(32), r.hex(10))
    }),
    named("cohere-api-token", &["cohere_api_key", "co_api_key"], |r| r.alnum(40)),
    named("mistral-api-key", &["mistral_api_key"], |r| r.alnum(32)),
    // Package registries.
    plain("npm-access-token", &["npm_token", "node_auth_token"], |r| format!("npm_{}", r.alnum(36))),
    placed("npm-legacy-auth-token", Random::uuid),
    plain("pypi-upload-token", &["twine_password", "pypi_token", "uv_publish_token"], |r| {
        let length = r.between(100, 160);
        format!("{}{}", r.pick(&["pypi-AgEIcHlwaS5vcmc", "pypi-AgENdGVzdC5weXBpLm9yZw"]), r.url_safe(length))
    }),
    plain("crates-io-token", &["cargo_registry_token"], |r| format!("cio{}", r.alnum(32))),
    plain("rubygems-api-token", &["rubygems_api_key", "gem_host_api_key"], |r| format!("rubygems_{}", r.hex(48))),
    plain("nuget-api-key", &["nuget_api_key"], |r| format!("oy2{}", r.lower(43))),
    plain("dockerhub-pat", &["dockerhub_token", "docker_password"], |r| {
        if r.below(3) == 0 { format!("dckr_oat_{}", r.url_safe(32)) } else { format!("dckr_pat_{}", r.url_safe(27)) }
    }),
    placed("docker-config-auth", |r| base64(format!("{}:{}", r.pick(&["ci-bot", "deploy", "acme"]), password(r)))),
    plain("artifactory-api-key", &["artifactory_api_key", "jfrog_access_token"], |r| {
        if r.below(3) == 0 { format!("cmVmdGtuOj{}", r.alnum(54)) } else { format!("AKCp{}", r.alnum(69)) }
    }),
    plain("clojars-api-token", &["clojars_password", "clojars_token"], |r| format!("CLOJARS_{}", r.hex(60))),
    // Chat and mail.
    plain("slack-bot-token", &["slack_bot_token", "slack_token"], |r| {
        let (a, b) = (r.between(10, 13), r.between(10, 13));
        format!("xoxb-{}-{}-{}", r.digits(a), r.digits(b), r.alnum(24))
    }),
    plain("slack-user-token", &["slack_user_token", "slack_token"], |r| {
        format!("xoxp-{}-{}-{}-{}", r.digits(12), r.digits(12), r.digits(13), r.hex(32))
    }),
    plain("slack-app-token", &["slack_app_token"], |r| {
        format!("xapp-1-A{}-{}-{}", r.upper(10), r.digits(13), r.hex(64))
    }),
    plain("slack-config-access-token", &["slack_config_token"], |r| {
        if r.below(3) == 0 {
            format!("xoxe-1-{}", r.alnum(146))
        } else {
            format!("xoxe.{}-1-{}", r.pick(&["xoxp", "xoxb"]), r.alnum(164))
        }
    }),
    plain("slack-webhook-url", &["slack_webhook_url"], |r| {
        if r.below(4) == 0 {
            let (team, app) = (r.upper(10), r.upper(10));
            return format!("https://hooks.slack.com/workflows/T{team}/A{app}/{}/{}", r.digits(18), r.alnum(24));
        }
        format!("https://hooks.slack.com/services/T{}/B{}/{}", r.upper(10), r.upper(10), r.alnum(24))
    }),
    plain("discord-bot-token", &["discord_token", "bot_token"], |r| {
        let id = base64_url(r.digits(18));
        format!("{id}.G{}.{}", r.url_safe(5), r.url_safe(38))
    }),
    plain("discord-webhook-url", &["discord_webhook_url", "discord_webhook"], |r| {
        let host = r.pick(&["discord.com", "discord.com", "discordapp.com", "canary.discord.com"]);
        format!("https://{host}/api/webhooks/{}/{}", r.digits(19), r.url_safe(68))
    }),
    plain("telegram-bot-api-token", &["telegram_bot_token", "telegram_token"], |r| {
        let length = r.between(9, 10);
        format!("{}:AA{}", r.digits(length), r.url_safe(33))
    }),
    plain("microsoft-teams-webhook", &["teams_webhook_url", "ms_teams_webhook"], |r| {
        let path = format!("{}@{}/IncomingWebhook/{}/{}", r.uuid(), r.uuid(), r.hex(32), r.uuid());
        format!("https://acme.webhook.office.com/webhookb2/{path}")
    }),
    plain("twilio-api-key", &["twilio_api_key"], |r| format!("SK{}", r.hex(32))),
    named("twilio-auth-token", &["twilio_auth_token"], |r| r.hex(32)),
    plain("sendgrid-api-token", &["sendgrid_api_key"], |r| format!("SG.{}.{}", r.url_safe(22), r.url_safe(43))),
    plain("mailchimp-api-key", &["mailchimp_api_key"], |r| format!("{}-us{}", r.hex(32), r.between(1, 21))),
    plain("mailgun-private-api-token", &["mailgun_api_key"], |r| format!("key-{}", r.hex(32))),
    named("mailgun-private-api-token", &["mailgun_api_key"], |r| format!("{}-{}-{}", r.hex(32), r.hex(8), r.hex(8))),
    // Payment and shops.
    plain("stripe-access-token", &["stripe_secret_key", "stripe_api_key"], |r| {
        let length = r.pick(&[24, 99]);
        format!("{}{}", r.pick(&["sk_live_", "sk_test_"]), r.alnum(length))
    }),
    plain("stripe-restricted-key", &["stripe_restricted_key"], |r| {
        let length = r.pick(&[24, 99]);
        format!("{}{}", r.pick(&["rk_live_", "rk_test_"]), r.alnum(length))
    }),
    plain("stripe-webhook-secret", &["stripe_webhook_secret", "webhook_secret"], |r| format!("whsec_{}", r.alnum(32))),
    plain("square-access-token", &["square_access_token"], |r| match r.below(3) {
        0 => format!("sq0atp-{}", r.url_safe(22)),
        1 => format!("sq0csp-{}", r.url_safe(43)),
        _ => format!("EAAA{}", r.url_safe(60)),
    }),
    plain("shopify-access-token", &["shopify_access_token", "shopify_api_secret"], |r| {
        format!("{}{}", r.pick(&["shpat_", "shpca_", "shppa_", "shpss_"]), r.hex(32))
    }),
    plain("flutterwave-secret-key", &["flw_secret_key", "flutterwave_secret_key"], |r| {
        format!("{}{}-X", r.pick(&["FLWSECK-", "FLWSECK_TEST-"]), r.hex(32))
    }),
    plain("easypost-api-token", &["easypost_api_key"], |r| format!("{}{}", r.pick(&["EZAK", "EZTK"]), r.alnum(54))),
    plain("shippo-api-token", &["shippo_token", "shippo_api_key"], |r| {
        format!("shippo_{}_{}", r.pick(&["live", "test"]), r.hex(40))
    }),
    // Infrastructure.
    plain("vault-service-token", &["vault_token"], |r| {
        // A root token is short.
        let length = r.between(85, 113);
        if r.below(3) == 0 { format!("hvs.{}", r.alnum(24)) } else { format!("hvs.CAESI{}", r.url_safe(length)) }
    }),
    named("vault-service-token", &["vault_token"], |r| format!("s.{}", r.alnum(24))),
    plain("vault-batch-token", &["vault_token"], |r| {
        let length = r.between(138, 212);
        format!("hvb.AAAAAQ{}", r.url_safe(length))
    }),
    plain("hashicorp-tf-api-token", &["tf_token_app_terraform_io", "tfe_token"], |r| {
        let length = r.between(60, 70);
        format!("{}.atlasv1.{}", r.alnum(14), r.url_safe(length))
    }),
    plain("doppler-api-token", &["doppler_token"], |r| {
        let kind = r.pick(&["pt.", "ct.", "st.prd.", "st.dev_ci.", "sa."]);
        format!("dp.{kind}{}", r.alnum(43))
    }),
    plain("pulumi-api-token", &["pulumi_access_token"], |r| format!("pul-{}", r.hex(40))),
    plain("databricks-api-token", &["databricks_token"], |r| format!("dapi{}{}", r.hex(32), r.pick(&["", "-2", "-3"]))),
    plain("heroku-api-key", &["heroku_api_key"], |r| format!("HRKU-AA{}", r.url_safe(58))),
    named("heroku-api-key", &["heroku_api_key"], Random::uuid),
    plain("flyio-access-token", &["fly_api_token", "fly_access_token"], |r| {
        if r.below(3) == 0 {
            format!("fo1_{}", r.url_safe(43))
        } else {
            let length = r.between(60, 140) * 4;
            format!("fm2_lJPECAAAAAAA{}==", r.base64(length - 2))
        }
    }),
    named("cloudflare-api-key", &["cloudflare_api_token", "cf_api_token"], |r| r.url_safe(40)),
    named("cloudflare-api-key", &["cloudflare_api_key", "cf_api_key"], |r| r.hex(37)),
    plain("cloudflare-origin-ca-key", &["cloudflare_api_user_service_key", "origin_ca_key"], |r| {
        format!("v1.0-{}-{}", r.hex(24), r.hex(146))
    }),
    plain("netlify-access-token", &["netlify_auth_token"], |r| format!("nfp_{}", r.alnum(36))),
    named("netlify-access-token", &["netlify_auth_token", "netlify_access_token"], |r| r.url_safe(43)),
    named("vercel-token", &["vercel_token"], |r| r.alnum(24)),
    plain("tailscale-auth-key", &["ts_authkey", "tailscale_auth_key"], |r| {
        let kind = r.pick(&["auth", "auth", "client", "api"]);
        format!("tskey-{kind}-k{}CNTRL-{}", r.alnum(11), r.alnum(33))
    }),
    plain("openshift-user-token", &["openshift_token"], |r| format!("sha256~{}", r.url_safe(43))),
    placed("kubernetes-secret-yaml", |r| base64(password(r))),
    placed("kubeconfig", |r| if r.below(2) == 0 { jwt(r) } else { base64(keys::pem(r, "EC PRIVATE KEY")) }),
    plain("planetscale-password", &["planetscale_password", "database_password"], |r| {
        format!("{}{}", r.pick(&["pscale_pw_", "pscale_pw_", "pscale_tkn_"]), r.url_safe(43))
    }),
    plain("age-secret-key", &["sops_age_key"], |r| {
        format!("AGE-SECRET-KEY-1{}", r.of("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58))
    }),
    plain("1password-service-account-token", &["op_service_account_token"], |r| {
        let text = format!(
            r#"{{"signInAddress":"acme.1password.com","userAuth":{{"method":"SRPg-4096","salt":"{}"}},"email":"{}@1passwordserviceaccounts.com","srpX":"{}","muk":{{"k":"{}"}}}}"#,
            r.url_safe(22),
            r.lower(13),
            r.hex(64),
            r.url_safe(43)
        );
        format!("ops_{}", base64_url(text))
    }),
    // Observability and tools.
    plain("grafana-service-account-token", &["grafana_token", "grafana_service_account_token"], |r| {
        format!("glsa_{}_{}", r.alnum(32), r.hex(8))
    }),
    plain("sentry-user-token", &["sentry_auth_token"], |r| format!("sntryu_{}", r.hex(64))),
    named("datadog-access-token", &["datadog_app_key", "dd_app_key", "datadog_application_key"], |r| r.hex(40)),
    named("datadog-access-token", &["dd_api_key", "datadog_api_key"], |r| r.hex(32)),
    plain("new-relic-user-api-key", &["new_relic_api_key"], |r| format!("NRAK-{}", r.upper(27))),
    plain("dynatrace-api-token", &["dynatrace_api_token", "dt_api_token"], |r| {
        let base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        format!("dt0{}.{}.{}", r.pick(&["c01", "c01", "s16"]), r.of(base32, 24), r.of(base32, 64))
    }),
    plain("sonar-api-token", &["sonar_token"], |r| format!("{}{}", r.pick(&["squ_", "sqp_", "sqa_"]), r.hex(40))),
    named("snyk-api-token", &["snyk_token"], Random::uuid),
    plain("launchdarkly-sdk-key", &["launchdarkly_sdk_key", "ld_sdk_key"], |r| format!("sdk-{}", r.uuid())),
    plain("linear-api-key", &["linear_api_key"], |r| format!("lin_api_{}", r.alnum(40))),
    plain("notion-api-token", &["notion_token", "notion_api_key"], |r| {
        if r.below(3) == 0 { format!("secret_{}", r.alnum(43)) } else { format!("ntn_{}{}", r.digits(11), r.alnum(35)) }
    }),
    plain("airtable-personal-access-token", &["airtable_api_key", "airtable_token"], |r| {
        format!("pat{}.{}", r.alnum(14), r.hex(64))
    }),
    plain("postman-api-token", &["postman_api_key"], |r| format!("PMAK-{}-{}", r.hex(24), r.hex(34))),
    plain("figma-pat", &["figma_token", "figma_api_key"], |r| format!("figd_{}", r.url_safe(40))),
    named("okta-access-token", &["okta_api_token", "okta_token", "okta_client_token"], |r| {
        format!("00{}", r.url_safe(40))
    }),
    // Key material. The module `keys` makes the forms of multi-line keys.
    placed("private-key", |r| keys::pem(r, "PRIVATE KEY")),
    plain("private-key-base64", &["ssh_private_key_b64", "deploy_key_base64", "tls_private_key"], |r| {
        let kind = r.pick(&["RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "PRIVATE KEY"]);
        base64(keys::pem(r, kind))
    }),
    named("ethereum-private-key", &["eth_private_key", "deployer_private_key", "wallet_private_key"], |r| {
        format!("{}{}", r.pick(&["0x", "0x", ""]), r.hex(64))
    }),
    // Web credentials.
    placed("http-basic-auth", |r| {
        base64(format!("{}:{}", r.pick(&["admin", "svc-build", "ops@acme.test"]), password(r)))
    }),
    placed("http-bearer-opaque", |r| {
        let length = r.between(28, 72);
        r.url_safe(length)
    }),
    placed("session-cookie", |r| {
        let length = r.between(26, 64);
        if r.below(3) == 0 { r.hex(32) } else { r.alnum(length) }
    }),
    plain("jwt", &["access_token", "id_token", "jwt", "auth_token"], jwt),
    plain("jwt-base64", &["session", "encoded_token", "token_b64"], |r| base64(jwt(r))),
    placed("url-credentials", url_password),
    placed("curl-auth-user", password),
    placed("aws-presigned-url", |r| r.hex(64)),
    placed("otpauth-url", |r| {
        let length = r.pick(&[16, 26, 32]);
        r.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", length)
    }),
    placed("git-credential-store", |r| if r.below(2) == 0 { url_password(r) } else { r.alnum(20) }),
    // Stores and command lines.
    placed("netrc-password", password),
    placed("pgpass-password", |r| password(r).replace(':', "_")),
    placed("connection-string-password", |r| password(r).replace(';', "_")),
    placed("cli-password-flag", password),
    // Generic.
    named("generic-api-key", &["api_key", "x_api_key", "acme_api_key", "service_api_key", "billing_apikey"], |r| {
        let length = r.between(24, 44);
        r.alnum(length)
    }),
    named("generic-secret-hex", &["secret_key", "signing_secret", "secret_key_base", "hmac_secret"], |r| {
        let length = r.pick(&[32, 40, 64, 128]);
        r.hex(length)
    }),
    named("generic-password", &["password", "db_password", "admin_passwd", "smtp_password", "mysql_pwd"], password),
    named("generic-passphrase", &["passphrase", "key_passphrase", "gpg_passphrase"], passphrase),
    named("generic-client-secret", &["client_secret", "oauth_client_secret", "oidc_client_secret"], |r| {
        let length = r.between(28, 48);
        r.url_safe(length)
    }),
    // Wrapped.
    placed("dotenv-base64", |r| {
        let lines = [
            format!("GITHUB_TOKEN={}\n", github(r, "ghp_")),
            format!("NPM_TOKEN=npm_{}\n", r.alnum(36)),
            format!("DATABASE_URL=postgres://app:{}@db.acme.test/app\n", r.alnum(18)),
            format!("AWS_ACCESS_KEY_ID=AKIA{}\n", r.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)),
            format!("DB_PASSWORD={}\n", r.alnum(16)),
        ];
        let first = r.below(lines.len());
        let before = r.pick(&["", "PORT=8080\n", "NODE_ENV=production\n", "TZ=UTC\nDEBUG=0\n"]);
        base64(format!("{before}{}", lines[first]))
    }),
    placed("percent-encoded-token", |r| {
        let token = match r.below(5) {
            0 => format!("xoxb-{}-{}-{}", r.digits(12), r.digits(12), r.alnum(24)),
            1 => format!("sk-ant-api03-{}AA", r.url_safe(93)),
            2 => format!("glpat-{}", r.url_safe(20)),
            3 => github(r, "ghp_"),
            _ => format!("SG.{}.{}", r.url_safe(22), r.url_safe(43)),
        };
        percent(&token)
    }),
];

/// A classic token: thirty random characters and the CRC-32 of them in base 62.
fn github(r: &mut Random, prefix: &str) -> String {
    let body = r.alnum(30);
    let mut crc = !0_u32;
    for byte in body.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    let (mut rest, mut check) = (!crc, Vec::new());
    for _ in 0..6 {
        check.push(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[(rest % 62) as usize]);
        rest /= 62;
    }
    check.reverse();
    format!("{prefix}{body}{}", String::from_utf8_lossy(&check))
}

fn jwt(r: &mut Random) -> String {
    let header = r.pick(&[
        r#"{"alg":"HS256","typ":"JWT"}"#,
        r#"{"alg":"RS256","kid":"k-2026-11","typ":"JWT"}"#,
        r#"{"typ":"JWT","alg":"EdDSA"}"#,
        r#"{"alg":"ES256"}"#,
    ]);
    let claims = format!(r#"{{"sub":"{}","iat":17{},"scope":"repo:read"}}"#, r.lower(12), r.digits(8));
    let length = r.pick(&[43, 86, 342]);
    format!("{}.{}.{}", base64_url(header), base64_url(claims), r.url_safe(length))
}

/// A typical password: letters and digits, often with punctuation that needs no quoting.
pub fn password(r: &mut Random) -> String {
    let length = r.between(10, 22);
    match r.below(3) {
        0 => r.alnum(length),
        1 => format!("{}{}{}{}", r.alnum(5), r.pick(&["!", "#", "%", "-", "_", "@", "+"]), r.alnum(5), r.digits(2)),
        _ => {
            let mut text = r.of("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789!*-_.^%", length);
            text.insert_str(0, &r.alnum(2));
            text + &r.alnum(2)
        }
    }
}

fn url_password(r: &mut Random) -> String {
    let length = r.between(10, 24);
    if r.below(3) == 0 {
        format!("{}{}{}", r.alnum(6), r.pick(&["%40", "%21", "%23", "%2F", "%3A"]), r.alnum(7))
    } else {
        r.alnum(length)
    }
}

fn passphrase(r: &mut Random) -> String {
    const WORDS: [&str; 24] = [
        "copper", "lantern", "meadow", "orbit", "velvet", "thunder", "pickle", "granite", "juniper", "saddle",
        "mosaic", "quartz", "ribbon", "falcon", "ginger", "harvest", "ivory", "jigsaw", "kettle", "magnet", "nutmeg",
        "oyster", "puzzle", "walrus",
    ];
    // No underscores and dots: the value would look like an identifier or a path in code.
    let count = r.between(3, 6);
    let mut parts: Vec<String> = (0..count).map(|_| r.pick(&WORDS).to_owned()).collect();
    let (at, length) = (r.below(count) + 1, r.between(2, 4));
    parts.insert(at, r.digits(length));
    parts.join("-")
}
