//! Source hosts and what belongs to them.

use crate::spec::{Spec, named, token};

pub(super) fn rules() -> Vec<Spec> {
    vec![
        token("github-pat", "GitHub personal access token", r"ghp_[A-Za-z0-9]{30,}", &["ghp_"]),
        token(
            "github-fine-grained-pat",
            "GitHub fine-grained token",
            r"github_pat_[A-Za-z0-9_]{36,}",
            &["github_pat_"],
        ),
        token("github-oauth", "GitHub OAuth token", r"gho_[A-Za-z0-9]{30,}", &["gho_"]),
        token("github-app-token", "GitHub app token", r"gh[us]_[A-Za-z0-9_.\-]{30,}[A-Za-z0-9_]", &["ghu_", "ghs_"]),
        token("github-refresh-token", "GitHub refresh token", r"ghr_[A-Za-z0-9]{30,}", &["ghr_"]),
        token(
            "gitlab-pat-routable",
            "GitLab routable token",
            r"glpat-[A-Za-z0-9_\-]{27,}\.[A-Za-z0-9_\-]{2,3}\.?[A-Za-z0-9]{7,9}",
            &["glpat-"],
        ),
        token("gitlab-pat", "GitLab personal access token", r"glpat-[A-Za-z0-9_\-]{20,64}", &["glpat-"]),
        token("gitlab-deploy-token", "GitLab deploy token", r"gldt-[A-Za-z0-9_\-.]{20,64}", &["gldt-"]),
        token("gitlab-ptt", "GitLab pipeline trigger token", r"glptt-[A-Za-z0-9_\-]{20,64}", &["glptt-"]),
        token("gitlab-cicd-job-token", "GitLab job token", r"glcbt-[A-Za-z0-9_\-]{20,}", &["glcbt-"]),
        token(
            "gitlab-runner-authentication-token",
            "GitLab runner token",
            r"(?:glrtr?-[A-Za-z0-9_\-.]{20,}|GR1348941[A-Za-z0-9_\-]{20,40})",
            &["glrt-", "glrtr-", "gr1348941"],
        ),
        token(
            "gitlab-pat",
            "other GitLab tokens",
            r"(?:glft|glimt|glagent|glsoat|glffct|gloas)-[A-Za-z0-9_\-]{20,}",
            &["glft-", "glimt-", "glagent-", "glsoat-", "glffct-", "gloas-"],
        ),
        token(
            "atlassian-api-token",
            "Atlassian API token",
            r"AT(?:ATT|CTT|BB|STT)3?[A-Za-z0-9_\-=+/.]{24,}",
            &["atatt", "atctt", "atbb", "atstt"],
        )
        .entropy(3.5),
        named(
            "atlassian-api-token",
            "Atlassian API token, older form",
            "(?:atlassian|jira|confluence|bitbucket)",
            &["atlassian", "jira", "confluence", "bitbucket"],
            "[A-Za-z0-9]{24}",
        )
        .judged(),
    ]
}
