//! Web credentials.

use crate::spec::{Spec, shape, token};

/// One cookie of a header: its name and, as a group, its value.
const COOKIE: &str = r#"[\w.%\-]{1,64}\\{0,3}["']?[ \t]{0,2}[=:][ \t]{0,2}\\{0,3}["']?([^\s;,"'\\}]{1,})"#;

pub(super) fn rules() -> Vec<Spec> {
    let cookies = format!(
        r#"(?i:cookies?|cookie-jar)\\{{0,3}}["'\])]{{0,2}}(?:[ \t]{{0,4}}[=:,][ \t]{{0,4}}|[ \t]{{1,4}})(?:dict\()?[\\"'{{(]{{0,5}}[ \t]{{0,2}}{COOKIE}{}"#,
        format!(r#"(?:\\{{0,3}}["']?[;,][ \t]{{0,4}}\\{{0,3}}["']?{COOKIE})?"#).repeat(7)
    );
    vec![
        token("jwt", "JSON Web Token", r"ey[JA][A-Za-z0-9_\-]{10,}\.(?:ey|ZXlK)[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]{0,}(?:\.[A-Za-z0-9_\-]{8,}){0,2}", &["eyj", "eya"]).up_to(16 * 1024),
        token("jwt", "encrypted JSON Web Token", r"eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{0,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}", &["eyj"]).up_to(16 * 1024),
        token("jwt-base64", "JSON Web Token, base64-encoded once more", r"ZXlK[A-Za-z0-9+/_\-]{60,}={0,2}", &["zxlk"]).up_to(16 * 1024),
        token("aws-presigned-url", "signature of a presigned URL", r"X-(?:Amz|Goog)-(?:Signature|Security-Token|Credential)(?:=|%3[dD]|\\u003[dD])([A-Za-z0-9%/+_\-.~]{16,}={0,2})", &["x-amz-signature", "x-amz-security-token", "x-goog-signature", "x-goog-security-token", "x-amz-credential", "x-goog-credential"]).groups(&[1]).up_to(4096),
        token("aws-presigned-url", "signature in a signed request", r"Signature=([A-Za-z0-9%/+_\-~]{27,}={0,2})", &["signature="]).groups(&[1]).up_to(1100),
        shape("http-basic-auth", "basic authentication", r#"(?i:basic)[ \t]{1,3}([A-Za-z0-9+/_\-]{8,}={0,2})"#, &["basic"]).up_to(1100).judged(),
        shape(
            "http-bearer-opaque",
            "bearer token",
            r#"(?i:bearer)(?:[ \t]{1,3}|%20|\+|[:=][ \t]{0,3}|\\{0,3}["'],[ \t]{0,3}\\{0,3}["'])([A-Za-z0-9_\-.~+/=:%|]{8,})"#,
            &["bearer"],
        )
        .up_to(4096)
        .judged(),
        shape(
            "http-bearer-opaque",
            "credentials in an authorization header",
            r#"(?i:authorization|x-authorization|private-token|deploy-token|job-token|x-[a-z\-]{0,24}(?:token|api-?key|secret|auth|signature)|(?:api|auth|access|admin|app|service|subscription|ocp-apim-subscription|x-functions)-(?:key|token))\\{0,3}["']?[ \t]{0,3}(?:[:=]|,|=>)[ \t]{0,3}\\{0,3}["']?(?:(?i:token|bearer|basic|apikey|api-key|key|digest|negotiate|sso-key|bot|ssws)[ \t=]{1,3})?([A-Za-z0-9_\-.~+/=:%|]{12,})"#,
            &["authorization", "private-token", "deploy-token", "job-token", "x-", "api-", "auth-", "access-", "admin-", "app-", "service-", "subscription-", "ocp-apim-"],
        )
        .up_to(4096)
        .judged(),
        shape("session-cookie", "cookie", &cookies, &["cookie"]).groups(&[1, 2, 3, 4, 5, 6, 7, 8]).up_to(4096).judged(),
        shape(
            "session-cookie",
            "session cookie",
            r#"(?i:phpsessid|jsessionid|asp\.net_sessionid|connect\.sid|laravel_session|_session_id|sessionid|session|sid|remember_token|remember_user_token|auth_session|next-auth\.session-token|__secure-[\w.\-]{1,40}|__host-[\w.\-]{1,40})\\{0,3}["']?[ \t]{0,2}=[ \t]{0,2}\\{0,3}["']?([^\s;,"'\\}&]{16,})"#,
            &["phpsessid", "jsessionid", "asp.net_sessionid", "connect.sid", "laravel_session", "_session_id", "sessionid", "session", "sid", "remember_", "auth_session", "next-auth.", "__secure-", "__host-"],
        )
        .up_to(2200)
        .judged(),
        shape("url-credentials", "password in a URL", r#"://[^\s/:@"'<>\\?#]{0,}(?::|%3[aA])([^\s/@"'<>\\]{1,}(?:/[^\s/@"'<>\\]{1,64}){0,2}(?:@[^\s/@"'<>\\,;?&=()]{0,64}){0,4})@[A-Za-z0-9\[_$%{.\-]"#, &["://"]).up_to(600).judged(),
        shape("url-credentials", "token in a URL", r#"://([A-Za-z0-9_\-.~%]{16,})@[A-Za-z0-9\[.\-]"#, &["://"]).up_to(400).judged(),
        shape(
            "url-credentials",
            "secret in the query of a URL",
            r#"(?i:access_token|refresh_token|id_token|auth_token|auth|token|api_?key|key|secret|client_secret|password|passwd|pwd|sig|signature|code|session_token|private_token|job_token|code_verifier|subscription-key|hmac|jwt|credential|x-api-key)(?:=|%3[dD]|\\u003[dD])([^\s&"'<>\\#;,()]{8,})"#,
            &["access", "refresh", "id_token", "auth", "token", "api", "key", "secret", "client", "pass", "pwd", "sig", "code", "session", "private", "job_token", "subscription", "hmac", "jwt", "credential"],
        )
        .up_to(2200)
        .judged(),
        shape("curl-auth-user", "user and password on a command line", r#"(?:--user|--proxy-user|-(?i:u|su|ssu|ku|sku|lu|slu|fsslu|fu|iu|vu|xu))(?:[ \t]{1,4}|=|\\{0,7}["'],[ \t]{0,3}\\{0,7}["'])?\\{0,7}["']?[^\s:"'\\/=]{0,}:([^\s"'\\]{3,})"#, &["--user", "--proxy-user", "-u", "-su", "-ssu", "-ku", "-sku", "-lu", "-slu", "-fsslu", "-fu", "-iu", "-vu", "-xu"]).up_to(512).judged(),
        shape("otpauth-url", "seed of one-time passwords", r"(?i:otpauth)://[!-~]{0,}?[?&](?i:secret)=([A-Za-z2-7]{8,}={0,6})", &["otpauth://"]).up_to(600),
        shape("otpauth-url", "seed of one-time passwords", r"(?i:otpauth-migration)://offline\?data=([A-Za-z0-9%+/=_\-]{16,})", &["otpauth-migration://"]).up_to(2100),
    ]
}
