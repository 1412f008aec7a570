//! Package registries.

use crate::spec::{Spec, named, shape, token};

pub(super) fn rules() -> Vec<Spec> {
    vec![
        token("npm-access-token", "npm token", r"npm_[A-Za-z0-9]{30,64}", &["npm_"]).entropy(3.2),
        shape(
            "npm-legacy-auth-token",
            "token or credentials in .npmrc",
            r#"_(?:auth[tT]oken|auth|password)\\{0,7}(?:["']|&quot;)?[ \t]{0,4}[=:][ \t]{0,4}\\{0,7}(?:["']|&quot;)?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[A-Za-z0-9+/_.\-]{16,}={0,2})"#,
            &["_authtoken", "_auth", "_password"],
        )
        .up_to(1024)
        .judged(),
        token("pypi-upload-token", "PyPI token", r"pypi-[A-Za-z0-9_\-]{50,}", &["pypi-"]).up_to(1024),
        token("crates-io-token", "crates.io token", r"cio[A-Za-z0-9]{32}", &["cio"]).entropy(3.2),
        token("rubygems-api-token", "RubyGems API key", r"rubygems_[a-f0-9]{48}", &["rubygems_"]),
        token("nuget-api-key", "NuGet API key", r"oy2[a-z0-9]{43}", &["oy2"]),
        token("dockerhub-pat", "Docker Hub token", r"dckr_(?:pat|oat)_[A-Za-z0-9_\-]{20,64}", &["dckr_pat_", "dckr_oat_"]),
        shape(
            "docker-config-auth",
            "credentials in a Docker configuration",
            r#"(?:auth|identitytoken|registrytoken|_json_key)\\{0,7}(?:["']|&quot;)[ \t]{0,4}:[ \t]{0,4}\\{0,7}(?:["']|&quot;)([A-Za-z0-9+/_.\-]{8,}={0,2})"#,
            &["auth", "identitytoken", "registrytoken", "_json_key"],
        )
        .up_to(4096)
        .judged(),
        token("artifactory-api-key", "Artifactory API key", r"AKCp[A-Za-z0-9]{32,80}", &["akcp"]),
        token("artifactory-api-key", "Artifactory reference token", r"cmVmdGtu[A-Za-z0-9]{48,64}", &["cmvmdgtu"]),
        named("artifactory-api-key", "Artifactory API key", "artifactory|jfrog|x-jfrog-art-api", &["artifactory", "jfrog", "x-jfrog-art-api"], "[A-Za-z0-9]{64,73}").judged(),
        token("clojars-api-token", "Clojars token", r"CLOJARS_[A-Za-z0-9]{60}", &["clojars_"]),
        named("rubygems-api-token", "RubyGems API key", "rubygems_api_key", &["rubygems_api_key"], "[A-Za-z0-9_]{32,64}"),
        named("nuget-api-key", "NuGet API key", "nuget", &["nuget"], "[A-Za-z0-9]{46}").judged(),
    ]
}
