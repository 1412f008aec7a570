//! Regression tests, one for each kind of text: ordinary text that was redacted by mistake, and secrets that were
//! missed. The first kinds are from published sources, in which `ordinary` counts them.

use super::super::*;
use super::{redactor, streamed};

#[track_caller]
fn assert_unchanged(texts: &[&str]) {
    let run = redactor();
    for text in texts {
        assert_eq!(run.redact(text).text, *text);
    }
}

/// Checks that only the secret is removed.
#[track_caller]
fn assert_redacted(secret: &str, texts: &[&str]) {
    let run = redactor();
    for text in texts {
        assert!(text.contains(secret), "{text}");
        let output = run.redact(text).text.into_owned();
        let parts: Vec<&str> = text.split(secret).collect();
        let mut rest = output.as_str();
        for (at, part) in parts.iter().enumerate() {
            rest = rest.strip_prefix(part).unwrap_or_else(|| panic!("{text:?} gave {output:?}"));
            if at + 1 < parts.len() {
                let name = rest.strip_prefix("[REDACTED:").unwrap_or_else(|| panic!("{text:?} gave {output:?}"));
                rest = name.split_once(']').unwrap().1;
            }
        }
        assert_eq!(rest, "", "{text:?} gave {output:?}");
        assert_eq!(run.redact(&output).text, output);
        for cuts in [&[1][..], &[5, 2], &[19]] {
            assert_eq!(streamed(&run, text.as_bytes(), cuts), output, "cut at {cuts:?}");
        }
    }
}

#[test]
fn keeps_prose_about_passwords_and_tokens() {
    assert_unchanged(&[
        "The login page password validation is broken.\n",
        "Attempting to login using password authentication\n",
        "use the access code instead of the login and password you have\n",
        "the account settings password field2 loses focus\n",
        "every machine needs login page password validation\n",
        "The password is hashed with argon2id before it is stored.\n",
        "the token is expired, the key is missing, the secret is out\n",
        "the sort key is customer_id2 and the cache key is x86_64-linux-gnu\n",
        "the next token is 1024 bytes long, the key was 256bit, the key is 2026-11-03T08:14:07Z\n",
        "the primary key is 6bfb0826-5d56-4568-a766-4beb22f4ba40\n",
        "the key of the map is v1.22.3 and the token for it is 0x7f\n",
        "the address of the token is 0x0e077d606c31a62107c4ca7722f19d57ce4e1b3d\n",
    ]);
}

#[test]
fn keeps_numbers_times_and_versions() {
    assert_unchanged(&[
        "pub const STATUS_BAD_PASSWORD: NTSTATUS = 0xC000007A_u32 as _;\n",
        "pub const DIBUTTON_GOLF_PASS: u32 = 268436999u32;\n",
        "pub const FLAG_WITH_PASSWORD: u32 = 2048000;\n",
        "    TYPE_VARIATION_PASSWORD = 0x00000080,\n",
        "#define OPTION_PROXY_PASSWORD                0x1003\n",
        "export declare const SIGN_UP_SUBMIT_PASSWORD = 100024;\n",
        "pub const POLICY_CREATE_SECRET: ACCESS_MASK = 0x00000020;\n",
        "    QueryWriter::new(&mut out, \"ChangePassword\", \"2010-05-08\");\n",
        "pub const EX9AlphaBitmap_SrcColorKey: EX9AlphaBitmapFlags = EX9AlphaBitmapFlags(8i32);\n",
        "pub const AA_AUTH_COOKIE: AASchemes = AASchemes(7i32);\n",
        "    .expect_token(\"first\", \"1975-01-01T00:00:00Z\")\n",
        "    \"minipass\": \"^7.1.3\",\n    \"fs-minipass\": \"^3.0.0\",\n    \"@example/password\": \">=4.0.23-beta.1\",\n",
        "token: 0x0e077d606c31a62107c4ca7722f19d57ce4e1b3d\n",
        "    \"patchKey\": \"b2a8c33e-7b14-4903-81e6-4082d300ee0d:0\",\n",
    ]);
}

#[test]
fn keeps_types_calls_and_names() {
    assert_unchanged(&[
        "    pub create_render_pass2: PFN_exCreateRenderPass2,\n",
        "pub const DEFRAG_PASS: D3DKMT_OPERATION = 3i32;\n",
        "let mut secret: [u8; 32] = Default::default();\n",
        "let mut shared_secret: Vec<u8> = vec![0u8; length];\n",
        "let mut secret = Zeroizing::new([0u8; 5]);\n",
        "trait Secret: ZeroizeOnDrop + Zeroize {}\n",
        "    base.pass(\"./g\", \"http://a/b/c/g\");\n    base.pass(\"g;x?y#s\", \"http://a/b/c/g;x?y#s\");\n",
        "    diagnostics.pass_span(&mut render_pass, \"main_opaque_pass_2d\");\n",
        "use pipeline::{core_3d::Opaque3d, prepass::DepthPrepass, Core3d, Core3dSystems};\n",
        "use secrecy::{ExposeSecret, SecretString, zeroize::Zeroize};\n",
        "        ElementType::MaxKey => RawRef::MaxKey,\n",
        "bcrypt_hash(sha2pass, sha2salt, out);\n",
        "const p = Buffer.from(password, 'base64').toString('utf8')\n",
        "crypto.importKey('raw', encode(password), 'PBKDF2', false)\n",
        "client._auth = requests.auth.HTTPBasicAuth(u, p)\n",
        "maybe_has_http_auth = cache_maybe_has_http_auth(&url);\n",
        "const POSIX_KEY = /^[A-Za-z_][A-Za-z0-9_]*$/;\n",
        "exports.SecretPacket = exports.ClientSecretCredential = exports.AzureKeyCredential = void 0;\n",
        "node.firstKey = this.firstKey, node.lastChildKey = this.lastChildKey, node.props = 1\n",
        "export type MqttPassword = Buffer|Uint8Array|Blob|string;\n",
        "    CACHING_SHA2_PASSWORD: \"CACHING_SHA2_PASSWORD\",\n",
        "(ffi::ID_REV_PASSPHRASE, \"id-it-revPassphrase\"),\n",
        "format!(\"mysql://{encoded_user}:{encoded_password}@localhost/x\")\n",
    ]);
}

#[test]
fn keeps_lists_of_names_that_follow_one_another() {
    assert_unchanged(&[
        "fn f(subauthority0: u32, subauthority1: u32, subauthority2: u32, subauthority3: u32, subauthority4: u32, subauthority5: u32, subauthority6: u32, subauthority7: u32, subauthority8: u32, subauthority9: u32);\n",
        "type Token = OpenParenToken | CloseParenToken | DotToken | EqualsToken | CommaToken | ColonToken | QuestionToken | PlusToken | MinusToken | LessThanEqualsToken | SlashToken;\n",
        "[\"TSAnyKeyword\", \"TSNullKeyword\", \"TSNumberKeyword\", \"TSObjectKeyword\", \"TSStringKeyword\", \"TSSymbolKeyword\", \"TSUndefinedKeyword\", \"TSUnknownKeyword\", \"TSVoidKeyword\", \"TSNeverKeyword\"]\n",
    ]);
}

#[test]
fn keeps_names_of_resources_and_public_keys() {
    assert_unchanged(&[
        "  \"AWS::SecretsManager::Secret\": \"aws-resource-secretsmanager-secret2.html\",\n",
        "  \"AWS::IAM::AccessKey\": \"aws-properties-iam-accesskey3.html\",\n",
        "gpg --keyserver hkps://keys.example.org --recv-keys 5ac717f7bf0387a3153397df6dae75db5c12ea26\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n",
        "    .header(\"sec-websocket-key\", \"dGhlIHNhbXBsZSBub25jZQ==\")\n",
        "let key = \"AAAAC3NzaC1lZDI1NTE5AAAAIJHnq2vX0k9v1z8x7q2m9k4v1z8x7q2m9k4v1z8\";\n",
        "See [section 3.4: If-Unmodified-Since](https://docs.example.org/html/rfc#3.4)\n",
        "- [abort-multipart-upload](https://docs.example.org/cli/latest/reference/abort)\n",
        "--vscode-tab-unfocusedForeground:#33333359;--vscode-tab-border:#f3f3f3\nreturn t<-u+i&&(t=-u+i):t>u-i8&&(t=u-i)\n",
        "(\"alice.eth\", \"0x787192fc5378cc32aa956ddfdedbf26b24e8d78e40109add0eea2c1a012c3dec\"),\n",
    ]);
}

#[test]
fn takes_values_in_sentences() {
    assert_redacted(
        "x7Qm2kV9tR4w",
        &[
            "the admin password is x7Qm2kV9tR4w and it works\n",
            "The token for the staging server is x7Qm2kV9tR4w.\n",
            "the password of the db user was `x7Qm2kV9tR4w`, I think\n",
            "I found that the API key is now x7Qm2kV9tR4w\n",
            "password set to x7Qm2kV9tR4w\n",
            "the client secret is \"x7Qm2kV9tR4w\"\n",
            "{\"text\":\"the admin password is x7Qm2kV9tR4w\\nand more\"}\n",
        ],
    );
}

#[test]
fn takes_passwords_of_urls_with_any_characters() {
    assert_redacted(
        "P@ssKettle42",
        &[
            "mongodb://app:P@ssKettle42@db.example.org:27017/app\n",
            "see postgres://app:P@ssKettle42@db.example.org/x?email=a@b.example\n",
            "{\"dsn\":\"mysql://app:P@ssKettle42@db.example.org/x\"}\n",
            "urls: amqp://app:P@ssKettle42@mq.example.org, mailto:ops@example.org\n",
        ],
    );
    assert_redacted("K@tt@le42x", &["redis://:K@tt@le42x@cache/0\n"]);
    assert_unchanged(&[
        "http://localhost:5173/node_modules/vue@3.4.1/dist/vue.js\n",
        "git clone https://example.org:8443/a/b.git me@example.org\n",
        "see http://localhost:8545@1599200\n",
    ]);
}

#[test]
fn takes_passwords_of_logins_without_a_scheme() {
    assert_redacted(
        "x7Qm2kV9tR4w",
        &[
            "url=jdbc:oracle:thin:scott/x7Qm2kV9tR4w@db.example.org:1521:ORCL\n",
            "jdbc:oracle:thin:scott/x7Qm2kV9tR4w@//db.example.org:1521/orcl\n",
            "$ sqlplus -s scott/x7Qm2kV9tR4w@orcl @report.sql\n",
        ],
    );
    assert_unchanged(&[
        "jdbc:oracle:thin:scott/${DB_PASSWORD}@db:1521:x\n",
        "jdbc:oracle:thin:@//db.example.org:1521/orcl\n",
    ]);
    assert_redacted(
        "my}}Kettle;Orb7it",
        &["Driver={ODBC Driver 18};Server=db;Uid=app;pwd={my}}Kettle;Orb7it};Encrypt=yes\n"],
    );
    assert_redacted("it''s;Kettle7", &["Server=db;User Id=app;Password='it''s;Kettle7';Encrypt=true\n"]);
}

#[test]
fn takes_passwords_that_look_like_code() {
    assert_redacted("my}}Kettle(7).x", &["DB_PASSWORD=my}}Kettle(7).x\n", "password: \"my}}Kettle(7).x\"\n"]);
    assert_redacted("k7==Kettle9", &["DB_PASSWORD=k7==Kettle9\n"]);
    assert_redacted("it.was.Kettle9x", &["DB_PASSWORD=it.was.Kettle9x\n"]);
}

#[test]
fn takes_netrc_lines_of_any_form() {
    assert_redacted(
        "kettle-orbit",
        &[
            "machine pkg.example.org login ci password kettle-orbit\n",
            "machine localhost:8080 login ci account x password kettle-orbit\n",
        ],
    );
    assert_redacted(
        "x7Qm2kV9tR4w",
        &["machine h\n  login ci\n  password x7Qm2kV9tR4w\n", "login ci password x7Qm2kV9tR4w\n"],
    );
}

#[test]
fn takes_private_keys_whose_lines_end_with_cr() {
    let body = ["MIIEpQIBAAKCAQEA1EEr0/Xh+emdvcUdTBKarkjrIdq8u8X/sBvD9BaQM/sDt2F8", "KfWBltWiwWgyfYNz2z/ySnGBFYMKgIH4"];
    let text = format!(
        "before\r-----BEGIN RSA PRIVATE KEY-----\r{}\r{}\r-----END RSA PRIVATE KEY-----\rafter words\r",
        body[0], body[1]
    );
    let run = redactor();
    let output = run.redact(&text).text.into_owned();
    assert_eq!(output, format!("before\r{}after words\r", "[REDACTED:private-key]\r".repeat(4)));
    for cuts in [&[1][..], &[7], &[64, 3]] {
        assert_eq!(streamed(&run, text.as_bytes(), cuts), output, "cut at {cuts:?}");
    }
    let mut stream = ByteRedactor::new(&run);
    let mut bytes = stream.push(&[b"\xff\xfe ", text.as_bytes()].concat());
    bytes.extend(stream.finish());
    assert_eq!(bytes, [b"\xff\xfe ", output.as_bytes()].concat());
}
