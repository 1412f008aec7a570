//! Cloud providers.

use crate::spec::{Spec, named, shape, token};

pub(super) fn rules() -> Vec<Spec> {
    vec![
        token("aws-access-token", "AWS access key id", r"A(?:KIA|SIA|BIA|CCA|GPA|IDA|IPA|KLA|NPA|NVA|ROA|PKA|SCA)[A-Z2-7]{16}", &["akia", "asia", "abia", "acca", "agpa", "aida", "aipa", "akla", "anpa", "anva", "aroa", "apka", "asca"]).entropy(2.6),
        token("aws-access-token", "AWS access key id", r"A(?:KIA|SIA)[A-Z0-9]{16}", &["akia", "asia"]).entropy(2.6),
        token("aws-bedrock-api-key", "Bedrock API key", r"ABSK[A-Za-z0-9+/]{80,}={0,2}", &["absk"]),
        token("aws-bedrock-api-key", "short-lived Bedrock API key", r"bedrock-api-key-[A-Za-z0-9+/=_\-]{40,}", &["bedrock-api-key-"]).up_to(4096),
        shape(
            "aws-secret-access-key",
            "AWS secret access key",
            r#"(?i:secret[_ \-]?access[_ \-]?key|aws[_\-]?secret|secret[_\-]?key)[ \t\w.\-]{0,16}[\\"'`\])<]{0,4}[ \t]{0,20}(?:=>|:=|[=:>,(]|\|\||[ \t])[\\"'`\s=(]{0,8}([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)"#,
            &["secret", "aws"],
        )
        .judged(),
        shape(
            "aws-session-token",
            "AWS session token",
            r#"(?i:session[_\-]?token|security[_\-]?token)[\\"'`\])<]{0,4}[ \t]{0,20}(?:=>|:=|[=:>,(]|[ \t])[\\"'`\s=(]{0,8}((?:[A-Za-z0-9/+]|%2[fFbB]){100,}(?:={0,2}|(?:%3[dD]){0,2}))"#,
            &["session", "security"],
        )
        .up_to(4096),
        token("aws-session-token", "AWS session token", r"(?:IQoJb3JpZ2luX2|FwoGZXIvYXdz|FQoGZXIvYXdz|FQoDYXdz)[A-Za-z0-9/+%]{60,}={0,2}", &["iqojb3jpz2lux2", "fwogzxivyxdz", "fqogzxivyxdz", "fqodyxdz"]).up_to(4096),
        token("gcp-api-key", "Google API key", r"AIza[A-Za-z0-9_\-]{35}", &["aiza"]).inside_words(),
        token("gcp-oauth-client-secret", "Google OAuth client secret", r"GOCSPX-[A-Za-z0-9_\-]{20,40}", &["gocspx-"]),
        token("gcp-oauth-client-secret", "Google OAuth token", r"ya29\.[A-Za-z0-9_\-.]{20,}", &["ya29."]).up_to(2048),
        token("gcp-oauth-client-secret", "Google refresh token", r"1//0[A-Za-z0-9_\-]{30,}", &["1//0"]),
        named("gcp-service-account", "key id of a Google service account", "private_key_id", &["private_key_id"], "[0-9a-f]{40}"),
        token("azure-ad-client-secret", "Entra client secret", r"[A-Za-z0-9_~.\-]{3}[0-9]Q~[A-Za-z0-9_~.\-]{31,37}", &["q~"]).up_to(64).entropy(3.5),
        shape("azure-storage-account-key", "Azure storage or service key", r#"(?i:account_?key|shared_?access_?key|access_?key|storage_?(?:account_?)?key|primary_?key|secondary_?key|azure[\w\-]{0,20}key)[\w.\-]{0,16}[\\"'`\])<]{0,4}[ \t]{0,20}(?:=>|:=|[=:>,(]|[ \t])[\\"'`\s=(]{0,8}([A-Za-z0-9+/]{43,}={1,2}|[A-Za-z0-9+/]{86,}={0,2})"#,
            &["account", "shared", "access", "storage", "primary", "secondary", "azure"]),
        token("azure-storage-account-key", "Azure storage key", r"[A-Za-z0-9+/]{76}\+ASt[A-Za-z0-9+/]{6}==", &["+ast"]).up_to(100),
        token("azure-sas-token", "signature of a shared access signature", r"sig=([A-Za-z0-9%+/_\-]{30,}={0,2})", &["sig="]).groups(&[1]),
        token("alibaba-access-key-id", "Alibaba access key id", r"LTAI[A-Za-z0-9]{12,26}", &["ltai"]).entropy(3.0),
        named("alibaba-access-key-id", "Alibaba access key secret", "(?:alibaba|aliyun|alicloud)", &["alibaba", "aliyun", "alicloud"], "[A-Za-z0-9]{30}").judged(),
        token("digitalocean-pat", "DigitalOcean token", r"do[opr]_v1_[a-f0-9]{64}", &["dop_v1_", "doo_v1_", "dor_v1_"]),
        token("yandex-api-key", "Yandex Cloud API key", r"AQVN[A-Za-z0-9_\-]{35,40}", &["aqvn"]),
        token("yandex-api-key", "Yandex token", r"(?:t1\.[A-Z0-9a-z_\-]{20,}=?=?\.[A-Z0-9a-z_\-]{86}=?=?|y[0-3]_[A-Za-z0-9_\-]{50,80}|YC[a-zA-Z0-9_\-]{38})", &["t1.", "y0_", "y1_", "y2_", "y3_", "yc"]).entropy(3.8),
    ]
}
