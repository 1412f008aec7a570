//! Infrastructure.

use crate::spec::{Spec, named, shape, token};

pub(super) fn rules() -> Vec<Spec> {
    vec![
        token("vault-service-token", "Vault service token", r"hvs\.[A-Za-z0-9_\-]{20,}", &["hvs."]),
        token("vault-batch-token", "Vault batch token", r"hvb\.[A-Za-z0-9_\-]{60,}", &["hvb."]).up_to(1024),
        token("vault-service-token", "Vault recovery token", r"hvr\.[A-Za-z0-9_\-]{20,}", &["hvr."]),
        token("vault-service-token", "Vault token, older form", r"[sb]\.[A-Za-z0-9]{24}", &["s.", "b."]).entropy(3.8).judged(),
        token("hashicorp-tf-api-token", "Terraform Cloud token", r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_\-=]{60,80}", &[".atlasv1."]).up_to(128),
        token("doppler-api-token", "Doppler token", r"dp\.(?:pt|ct|sa|scim|audit|said)\.[A-Za-z0-9]{40,48}", &["dp.pt.", "dp.ct.", "dp.sa.", "dp.scim.", "dp.audit.", "dp.said."]),
        token("doppler-api-token", "Doppler service token", r"dp\.st\.(?:[a-z0-9\-_]{2,35}\.)?[A-Za-z0-9]{40,48}", &["dp.st."]),
        token("pulumi-api-token", "Pulumi token", r"pul-[a-f0-9]{40}", &["pul-"]),
        token("databricks-api-token", "Databricks token", r"dapi[a-f0-9]{32}(?:-[0-9])?", &["dapi"]),
        token("databricks-api-token", "Databricks OAuth secret", r"dose[a-f0-9]{32}", &["dose"]),
        token("heroku-api-key", "Heroku key", r"HRKU-[A-Za-z0-9_\-]{36,70}", &["hrku-"]),
        named("heroku-api-key", "Heroku key", "heroku", &["heroku"], "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"),
        token("flyio-access-token", "Fly.io token", r"(?:fm[12][ar]?_[A-Za-z0-9+/=_\-]{40,}|fo1_[A-Za-z0-9_\-]{40,50})", &["fm1", "fm2", "fo1_"]).up_to(4096),
        token("cloudflare-origin-ca-key", "Cloudflare origin CA key", r"v1\.0-[a-f0-9]{24}-[a-f0-9]{146}", &["v1.0-"]),
        named("cloudflare-api-key", "Cloudflare key", "cloudflare|cf_(?:api_)?(?:token|key)|x-auth-key", &["cloudflare", "cf_", "x-auth-key"], "[a-f0-9]{37}|[A-Za-z0-9_\\-]{40}").judged(),
        token("cloudflare-api-key", "Cloudflare token", r"cf(?:k|ut|at)_[A-Za-z0-9_\-]{36,64}", &["cfk_", "cfut_", "cfat_"]).entropy(3.6),
        token("netlify-access-token", "Netlify token", r"nf[pcoub]_[A-Za-z0-9]{36,46}", &["nfp_", "nfc_", "nfo_", "nfu_", "nfb_"]),
        named("netlify-access-token", "Netlify token, older form", "netlify", &["netlify"], "[A-Za-z0-9_\\-]{40,46}").judged(),
        token("vercel-token", "Vercel token", r"vc[a-z]_[A-Za-z0-9]{24,64}|vercel_blob_rw_[A-Za-z0-9_]{20,80}", &["vc", "vercel_blob_rw_"]).entropy(3.4).judged(),
        named("vercel-token", "Vercel token", "vercel|now_token", &["vercel", "now_token"], "[A-Za-z0-9]{24}").judged(),
        token("tailscale-auth-key", "Tailscale key", r"tskey-[a-z]{2,12}-[A-Za-z0-9]{8,32}-[A-Za-z0-9]{16,64}", &["tskey-"]),
        token("tailscale-auth-key", "Tailscale key, older form", r"tskey-[A-Za-z0-9]{8,32}-[A-Za-z0-9]{16,64}", &["tskey-"]),
        token("openshift-user-token", "OpenShift token", r"sha256~[A-Za-z0-9_\-]{43}", &["sha256~"]),
        shape("kubeconfig", "credentials in a kubeconfig", r#"(?:client-key-data|token|id-token|refresh-token)\\{0,3}["']?[ \t]{0,4}:[ \t]{1,4}\\{0,3}["']?([A-Za-z0-9+/_.\-]{40,}={0,2})"#, &["client-key-data", "token"]).up_to(8192).judged(),
        shape("kubernetes-secret-yaml", "value in a Kubernetes secret", r#"(?i:tls\.key|ssh-privatekey|\.dockerconfigjson|\.dockercfg|username|password|passwd|token|secret|api[_\-]?key|access[_\-]?key|private[_\-]?key|credentials?|connection[_\-]?string|database[_\-]?url|dsn)[ \t]{0,2}:[ \t]{1,4}["']?([A-Za-z0-9+/]{8,}={0,2})["']?[ \t]*$"#,
            &["tls.key", "ssh-privatekey", ".dockerconfigjson", ".dockercfg", "username", "password", "passwd", "token", "secret", "api", "access", "private", "credential", "connection", "database", "dsn"]).up_to(8192).judged(),
        token("planetscale-password", "PlanetScale credential", r"pscale_(?:pw|tkn|oauth)_[A-Za-z0-9_.=\-]{32,64}", &["pscale_"]),
        token("1password-service-account-token", "1Password service account token", r"ops_eyJ[A-Za-z0-9+/_\-]{200,}={0,3}", &["ops_eyj"]).up_to(4096),
        token("1password-service-account-token", "1Password secret key", r"A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})-[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{5}", &["a3-"]),
        token("vercel-token", "Supabase and Render tokens", r"(?:sbp_[a-f0-9]{40}|sb_secret_[A-Za-z0-9_\-]{20,64}|rnd_[A-Za-z0-9]{32})", &["sbp_", "sb_secret_", "rnd_"]).entropy(3.0),
    ]
}
