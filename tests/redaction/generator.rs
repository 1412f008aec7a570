//! Synthetic secrets and look-alikes in the contexts in which tools print them. Deterministic: a seed gives the same
//! texts everywhere. No value was ever issued by anyone.

/// A text, and the parts of it that must be redacted.
#[derive(Debug, Clone)]
pub struct Case {
    /// The usual name of the kind of secret, or of the look-alike.
    pub rule: &'static str,
    pub text: String,
    /// Empty for look-alikes.
    pub secrets: Vec<String>,
}

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    pub fn text(&mut self, alphabet: &str, length: usize) -> String {
        (0..length).map(|_| alphabet.as_bytes()[self.below(alphabet.len())] as char).collect()
    }
}

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &str = "0123456789";
const HEX: &str = "0123456789abcdef";
const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const LOWER_ALNUM: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const UPPER_ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const URL64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const STD64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Fills a template: `{a36}` is 36 letters and digits, `{h40}` hex, `{u20}` URL-safe base64, `{s64}` base64, `{d10}`
/// digits, `{U8}` upper-case letters and digits, `{l8}` lower-case letters and digits, `{L4}` upper-case letters.
fn fill(random: &mut Random, template: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let close = rest[open..].find('}').map_or(rest.len(), |at| open + at);
        let (kind, length) = rest[open + 1..close].split_at(1);
        let alphabet = match kind {
            "a" => ALNUM,
            "h" => HEX,
            "u" => URL64,
            "s" => STD64,
            "d" => DIGITS,
            "U" => UPPER_ALNUM,
            "l" => LOWER_ALNUM,
            "L" => UPPER,
            "z" => LOWER,
            _ => panic!("unknown template {template}"),
        };
        let mut part = random.text(alphabet, length.parse().unwrap());
        // A token never ends in punctuation.
        if kind == "u" {
            part.pop();
            part.push_str(&random.text(ALNUM, 1));
        }
        out.push_str(&part);
        rest = &rest[close + 1..];
    }
    out + rest
}

/// Tokens with a prefix.
const TOKENS: &[(&str, &str)] = &[
    ("aws-access-token", "AKIA{L4}234567{L6}"),
    ("aws-access-token", "ASIA{L8}2345{L4}"),
    ("aws-bedrock-api-key", "ABSK{s128}="),
    ("gcp-api-key", "AIza{u35}"),
    ("gcp-oauth-client-secret", "GOCSPX-{u28}"),
    ("azure-ad-client-secret", "{a3}8Q~{u34}"),
    ("alibaba-access-key-id", "LTAI{a20}"),
    ("digitalocean-pat", "dop_v1_{h64}"),
    ("yandex-api-key", "AQVN{u36}"),
    ("github-pat", "ghp_{a36}"),
    ("github-fine-grained-pat", "github_pat_{a22}_{a59}"),
    ("github-oauth", "gho_{a36}"),
    ("github-app-token", "ghs_{a36}"),
    ("github-app-token", "ghu_{a36}"),
    ("github-refresh-token", "ghr_{a36}"),
    ("gitlab-pat", "glpat-{u20}"),
    ("gitlab-pat-routable", "glpat-{u27}.01.{l9}"),
    ("gitlab-deploy-token", "gldt-{u20}"),
    ("gitlab-ptt", "glptt-{h40}"),
    ("gitlab-cicd-job-token", "glcbt-{l2}_{u20}"),
    ("gitlab-runner-authentication-token", "glrt-{u20}"),
    ("atlassian-api-token", "ATATT3xFfGF0{u170}={U8}"),
    ("anthropic-api-key", "sk-ant-api03-{u93}AA"),
    ("anthropic-admin-api-key", "sk-ant-admin01-{u93}AA"),
    ("anthropic-oauth-token", "sk-ant-oat01-{u93}AA"),
    ("openai-api-key", "sk-{a20}T3BlbkFJ{a20}"),
    ("openai-api-key", "sk-svcacct-{u58}T3BlbkFJ{u58}"),
    ("huggingface-access-token", "hf_{a34}"),
    ("groq-api-key", "gsk_{a52}"),
    ("perplexity-api-key", "pplx-{a48}"),
    ("openrouter-api-key", "sk-or-v1-{h64}"),
    ("xai-api-key", "xai-{a80}"),
    ("replicate-api-token", "r8_{a37}"),
    ("deepseek-api-key", "sk-{h32}"),
    ("langsmith-api-key", "lsv2_pt_{h32}_{h10}"),
    ("npm-access-token", "npm_{a36}"),
    ("pypi-upload-token", "pypi-AgEIcHlwaS5vcmc{u150}"),
    ("crates-io-token", "cio{a32}"),
    ("rubygems-api-token", "rubygems_{h48}"),
    ("nuget-api-key", "oy2{l43}"),
    ("dockerhub-pat", "dckr_pat_{u27}"),
    ("artifactory-api-key", "AKCp{a69}"),
    ("clojars-api-token", "CLOJARS_{h60}"),
    ("slack-bot-token", "xoxb-{d12}-{d13}-{a24}"),
    ("slack-user-token", "xoxp-{d12}-{d12}-{d13}-{h32}"),
    ("slack-app-token", "xapp-1-A{U10}-{d13}-{h64}"),
    ("slack-config-access-token", "xoxe.xoxp-1-{a163}"),
    ("slack-webhook-url", "https://hooks.slack.com/services/T{U10}/B{U10}/{a24}"),
    ("discord-bot-token", "MTIz{a22}.{u6}.{u38}"),
    ("discord-webhook-url", "https://discord.com/api/webhooks/{d18}/{u68}"),
    ("telegram-bot-api-token", "{d10}:AA{u33}"),
    (
        "microsoft-teams-webhook",
        "https://acme.webhook.office.com/webhookb2/{h8}-{h4}-{h4}-{h4}-{h12}@{h8}-{h4}-{h4}-{h4}-{h12}/IncomingWebhook/{h32}/{h8}-{h4}-{h4}-{h4}-{h12}",
    ),
    ("twilio-api-key", "SK{h32}"),
    ("sendgrid-api-token", "SG.{u22}.{u43}"),
    ("mailchimp-api-key", "{h32}-us14"),
    ("mailgun-private-api-token", "key-{h32}"),
    ("stripe-access-token", "sk_live_{a24}"),
    ("stripe-restricted-key", "rk_live_{a99}"),
    ("stripe-webhook-secret", "whsec_{a32}"),
    ("square-access-token", "EAAA{u60}"),
    ("square-access-token", "sq0csp-{u43}"),
    ("shopify-access-token", "shpss_{h32}"),
    ("flutterwave-secret-key", "FLWSECK_TEST-{h32}-X"),
    ("easypost-api-token", "EZAK{a54}"),
    ("shippo-api-token", "shippo_live_{h40}"),
    ("vault-service-token", "hvs.{u95}"),
    ("vault-batch-token", "hvb.{u150}"),
    ("hashicorp-tf-api-token", "{a14}.atlasv1.{a67}"),
    ("doppler-api-token", "dp.pt.{a43}"),
    ("pulumi-api-token", "pul-{h40}"),
    ("databricks-api-token", "dapi{h32}"),
    ("heroku-api-key", "HRKU-AA{u58}"),
    ("flyio-access-token", "fm2_{s200}="),
    ("cloudflare-origin-ca-key", "v1.0-{h24}-{h146}"),
    ("netlify-access-token", "nfp_{a36}"),
    ("tailscale-auth-key", "tskey-auth-{a16}-{a32}"),
    ("openshift-user-token", "sha256~{u43}"),
    ("planetscale-password", "pscale_pw_{u43}"),
    ("age-secret-key", "AGE-SECRET-KEY-1{U58}"),
    ("1password-service-account-token", "ops_eyJ{a300}"),
    ("grafana-service-account-token", "glsa_{a32}_{h8}"),
    ("sentry-user-token", "sntryu_{h64}"),
    ("new-relic-user-api-key", "NRAK-{U27}"),
    ("dynatrace-api-token", "dt0c01.{U24}.{U64}"),
    ("sonar-api-token", "squ_{h40}"),
    ("launchdarkly-sdk-key", "sdk-{h8}-{h4}-{h4}-{h4}-{h12}"),
    ("linear-api-key", "lin_api_{a40}"),
    ("notion-api-token", "ntn_{d11}{a35}"),
    ("airtable-personal-access-token", "pat{a14}.{h64}"),
    ("postman-api-token", "PMAK-{h24}-{h34}"),
    ("figma-pat", "figd_{u40}"),
    ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ{a40}.{u43}"),
    ("jwt-base64", "ZXlKaGJHY2lPaUpJVXpJMU5pSjkuZXlKemRXSWlPaUo{a80}"),
];

/// Contexts of such a token.
const PLACES: &[&str] = &[
    "+ export TOOL_TOKEN=@\n",
    "{\"type\":\"item.completed\",\"item\":{\"aggregated_output\":\"login with @ ok\\n\"}}\n",
    "{\"content\":[{\"type\":\"text\",\"text\":\"{\\\"value\\\": \\\"@\\\"}\\n\"}]}\n",
    "\u{1b}[33m@\u{1b}[0m is rejected\n",
    "{\"out\":\"\\u001b[31m@\\u001b[0m\"}\n",
    "I found `@` in the file.\n",
    "value: '@' # rotate\n",
    "<string>@</string>\n",
    "12:+  client(\"@\");\n",
    "GET /v1/items?cursor=3&t=@&limit=5 401\n",
    "--- stderr\nrefused: @\n--- end\n",
    "| tool | @ | yes |\n",
    "panicked at 'bad credential: @', src/main.rs:3\n",
    "first line\\n@\\nlast line\n",
    "(@)\n",
    "x%3D@%26y%3D1\n",
    "echo @|tool --stdin\n",
];

/// Values without a prefix, each with a way to name them. `@` is the value.
const NAMED: &[(&str, &str, &[&str])] = &[
    (
        "aws-secret-access-key",
        "{s40}",
        &[
            "AWS_SECRET_ACCESS_KEY=@\n",
            "\"SecretAccessKey\": \"@\",\n",
            "aws_secret_access_key = @\n",
            "{\"out\":\"secret_key=\\\"@\\\"\\n\"}\n",
            "secretAccessKey: '@',\n",
        ],
    ),
    (
        "aws-session-token",
        "{s360}==",
        &["AWS_SESSION_TOKEN=@\n", "\"SessionToken\": \"@\"\n", "aws_session_token = @\n"],
    ),
    (
        "azure-storage-account-key",
        "{s86}==",
        &[
            "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=@;EndpointSuffix=core.windows.net\n",
            "AZURE_STORAGE_KEY=@\n",
            "\"storageAccountKey\": \"@\"\n",
        ],
    ),
    (
        "azure-sas-token",
        "{a43}%3D",
        &["https://acme.blob.acme.test/c/b?sv=2022-11-02&sp=r&sig=@\n", "?sv=2021&se=2026-01-01&sig=@&sr=b\n"],
    ),
    ("cohere-api-token", "{a40}", &["COHERE_API_KEY=@\n", "co = cohere.Client('@')\n", "cohere_key: \"@\"\n"]),
    ("mistral-api-key", "{a32}", &["MISTRAL_API_KEY=@\n", "Mistral(api_key=\"@\")\n", "mistral.api_key: @\n"]),
    (
        "npm-legacy-auth-token",
        "{h8}-{h4}-{h4}-{h4}-{h12}",
        &["//npm.acme.test/:_authToken=@\n", "_authToken = \"@\"\n"],
    ),
    ("twilio-auth-token", "{h32}", &["TWILIO_AUTH_TOKEN=@\n", "twilio(sid, '@')\n", "auth_token: \"@\"\n"]),
    ("heroku-api-key", "{h8}-{h4}-{h4}-{h4}-{h12}", &["HEROKU_API_KEY=@\n", "heroku_api_key: '@'\n"]),
    (
        "cloudflare-api-key",
        "{h37}",
        &["CLOUDFLARE_API_KEY=@\n", "-H \"X-Auth-Key: @\"\n", "cloudflare_api_key = \"@\"\n"],
    ),
    ("vercel-token", "{a24}", &["VERCEL_TOKEN=@\n", "vercel deploy --token @ --prod\n", "vercel_token: @\n"]),
    ("datadog-access-token", "{h40}", &["DD_APP_KEY=@\n", "datadog_app_key: @\n", "DD_API_KEY: \"@\"\n"]),
    ("snyk-api-token", "{h8}-{h4}-{h4}-{h4}-{h12}", &["SNYK_TOKEN=@\n", "snyk_token: @\n"]),
    ("okta-access-token", "00{u40}", &["Authorization: SSWS @\n", "okta_api_token = \"@\"\n"]),
    (
        "ethereum-private-key",
        "0x{h64}",
        &["PRIVATE_KEY=@\n", "privateKey: '@',\n", "\"deployer_private_key\": \"@\"\n"],
    ),
    (
        "http-bearer-opaque",
        "{u43}",
        &[
            "Authorization: Bearer @\n",
            "-H 'authorization: bearer @'\n",
            "{\"headers\":{\"Authorization\":\"Bearer @\"}}\n",
            "> authorization: Bearer @\n",
        ],
    ),
    (
        "session-cookie",
        "{a40}",
        &[
            "Cookie: theme=dark; session=@\n",
            "Set-Cookie: connect.sid=@; Path=/; HttpOnly\n",
            "-b 'PHPSESSID=@'\n",
            "{\"cookie\":\"sid=@\"}\n",
        ],
    ),
    (
        "url-credentials",
        "{a14}",
        &[
            "amqp://worker:@@mq.acme.test:5672/v\n",
            "DATABASE_URL=mysql://app:@@db.acme.test/app\n",
            "{\"u\":\"rediss://:@@c.acme.test:6380\"}\n",
            "git clone https://oauth2:@@git.acme.test/a.git\n",
        ],
    ),
    (
        "url-credentials",
        "{a32}",
        &["GET https://api.acme.test/v1?access_token=@&x=1\n", "https://api.acme.test/v2?api_key=@\n"],
    ),
    (
        "curl-auth-user",
        "{a16}",
        &[
            "curl -u admin:@ https://acme.test\n",
            "curl --user 'ci:@' https://acme.test\n",
            "curl -s -u \"ops:@\" https://acme.test\n",
        ],
    ),
    (
        "aws-presigned-url",
        "{h64}",
        &[
            "https://b.acme.test/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=@\n",
            "{\"url\":\"https://b.acme.test/k?X-Amz-Date=1\\u0026X-Amz-Signature=@\"}\n",
        ],
    ),
    ("otpauth-url", "{L16}234567{L10}", &["otpauth://totp/Acme:ops?secret=@&issuer=Acme\n"]),
    ("git-credential-store", "{a20}", &["https://ci:@@git.acme.test\n"]),
    (
        "netrc-password",
        "{a16}",
        &["machine git.acme.test login ci password @\n", "machine a.acme.test\n  login ci\n  password @\n"],
    ),
    ("pgpass-password", "{a16}", &["db.acme.test:5432:app:reporting:@\n", "*:*:*:postgres:@\n"]),
    (
        "connection-string-password",
        "{a14}",
        &[
            "Server=db.acme.test;Database=app;User Id=app;Password=@;Encrypt=true\n",
            "\"host=db user=app password=@ dbname=app\"\n",
            "jdbc:sqlserver://db.acme.test;user=sa;password=@;\n",
        ],
    ),
    (
        "cli-password-flag",
        "{a14}",
        &[
            "tool --password @ --verbose\n",
            "tool --db-password='@'\n",
            "tool login --token=@\n",
            "sshpass -p @ ssh ops@acme.test\n",
            "mysql -uroot -p@ app\n",
            "docker login -u ci -p @ registry.acme.test\n",
        ],
    ),
    (
        "generic-api-key",
        "{a36}",
        &[
            "api_key: \"@\"\n",
            "ACME_API_KEY=@\n",
            "{\"apiKey\":\"@\"}\n",
            "X-Api-Key: @\n",
            "setApiKey(\"@\")\n",
            "const accessToken: string = '@';\n",
            "<apiKey>@</apiKey>\n",
            "auth_token => '@'\n",
            "signing_key := \"@\"\n",
            "{\"out\":\"{\\\"access_token\\\":\\\"@\\\",\\\"n\\\":1}\"}\n",
        ],
    ),
    (
        "generic-secret-hex",
        "{h64}",
        &["SESSION_SECRET=@\n", "secret_key_base: @\n", "\"jwtSecret\": \"@\"\n", "encryption-key = '@'\n"],
    ),
    (
        "generic-password",
        "{a7}#{d3}{z3}",
        &[
            "DB_PASSWORD=@\n",
            "  password: '@'\n",
            "\"password\": \"@\",\n",
            "POSTGRES_PASSWORD: @\n",
            "passwd = \"@\"\n",
            "{\"out\":\"password=@\\n\"}\n",
            "smtpPass: \"@\"\n",
            "-Dspring.datasource.password=@\n",
        ],
    ),
    (
        "generic-client-secret",
        "{a40}",
        &["client_secret=@\n", "\"client_secret\": \"@\"\n", "OAUTH_CLIENT_SECRET: @\n", "clientSecret: '@',\n"],
    ),
    ("kubernetes-secret-yaml", "", &[]),
];

const WORDS: &[&str] = &[
    "amber", "canyon", "falcon", "harvest", "juniper", "lantern", "meadow", "nectar", "orchid", "pebble", "quartz",
    "timber", "velvet", "willow",
];

fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            out.push(if at > chunk.len() {
                '='
            } else {
                STD64.as_bytes()[(bits >> (18 - 6 * at) & 63) as usize] as char
            });
        }
    }
    out
}

/// Texts with secrets: every kind `rounds` times.
pub fn secrets(seed: u64, rounds: usize) -> Vec<Case> {
    let mut random = Random::new(seed);
    let mut cases = Vec::new();
    for round in 0..rounds {
        for (at, (rule, template)) in TOKENS.iter().enumerate() {
            let secret = fill(&mut random, template);
            let place = PLACES[(at + round * 5 + random.below(3)) % PLACES.len()];
            cases.push(Case { rule, text: place.replacen('@', &secret, 1), secrets: vec![secret] });
        }
        for (rule, template, places) in NAMED {
            for place in *places {
                let secret = fill(&mut random, template);
                cases.push(Case { rule, text: place.replacen('@', &secret, 1), secrets: vec![secret] });
            }
        }
        let password = fill(&mut random, "{a18}");
        for (rule, text, secret) in [
            ("http-basic-auth", "Authorization: Basic @\n", base64(format!("ci:{password}").as_bytes())),
            ("http-basic-auth", "{\"h\":\"authorization: basic @\"}\n", base64(format!("svc:{password}").as_bytes())),
            (
                "docker-config-auth",
                "{\"auths\":{\"r.acme.test\":{\"auth\":\"@\"}}}\n",
                base64(format!("robot:{password}").as_bytes()),
            ),
            ("kubernetes-secret-yaml", "data:\n  password: @\n", base64(password.as_bytes())),
            (
                "kubeconfig",
                "users:\n- user:\n    client-key-data: @\n",
                base64(format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n", fill(&mut random, "{s64}")).as_bytes()),
            ),
            (
                "dotenv-base64",
                "wrote @ to the variable\n",
                base64(format!("A=1\nGH={}\n", fill(&mut random, "ghp_{a36}")).as_bytes()),
            ),
            ("percent-encoded-token", "body: t=@&z=1\n", fill(&mut random, "sk%2Dant%2Dapi03%2D{a93}AA")),
            (
                "generic-passphrase",
                "passphrase: @\n",
                (0..4).map(|_| random.pick(WORDS)).collect::<Vec<_>>().join("-") + "-42",
            ),
            (
                "generic-passphrase",
                "SSH_KEY_PASSPHRASE=@\n",
                (0..3).map(|_| random.pick(WORDS)).collect::<Vec<_>>().join("-") + "-917",
            ),
            (
                "private-key-base64",
                "KEY=@\n",
                base64(
                    format!(
                        "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
                        fill(&mut random, "{s64}\n{s64}")
                    )
                    .as_bytes(),
                ),
            ),
        ] {
            cases.push(Case { rule, text: text.replacen('@', &secret, 1), secrets: vec![secret] });
        }
        cases.extend(keys(&mut random));
    }
    cases
}

/// Private keys, line by line, in the forms in which tools print files.
fn keys(random: &mut Random) -> Vec<Case> {
    let kind = random.pick(&["RSA ", "EC ", "", "OPENSSH ", "DSA ", "ENCRYPTED "]);
    let count = 4 + random.below(10);
    let mut body: Vec<String> = (0..count).map(|_| random.text(STD64, 64)).collect();
    body.push(random.text(STD64, 22) + "==");
    let (header, footer) = (format!("-----BEGIN {kind}PRIVATE KEY-----"), format!("-----END {kind}PRIVATE KEY-----"));
    let lines: Vec<&str> =
        std::iter::once(header.as_str()).chain(body.iter().map(String::as_str)).chain([footer.as_str()]).collect();
    let each = |form: &dyn Fn(usize, &str) -> String| {
        lines.iter().enumerate().map(|(at, line)| form(at, line)).collect::<String>()
    };
    let texts = [
        each(&|_, line| format!("{line}\r\n")),
        each(&|_, line| format!("    {line}\n")),
        each(&|_, line| format!("+{line}\n")),
        each(&|_, line| format!("-  {line}\n")),
        each(&|at, line| format!("{:6}\t{line}\n", at + 1)),
        each(&|at, line| format!("     {}→{line}\n", at + 1)),
        each(&|at, line| format!("{}: {line}\n", at + 1)),
        each(&|_, line| format!("deploy.key:{line}\n")),
        each(&|_, line| format!("web_1  | {line}\n")),
        format!("{{\"key\":\"{}\"}}\n", lines.join("\\n")),
        format!("{{\"out\":\"{{\\\"key\\\":\\\"{}\\\"}}\"}}\n", lines.join("\\\\n")),
        format!("KEY=\"{}\"\n", lines.join("\\n")),
        format!("KEY={}\n", lines.join(" ")),
        each(&|_, line| format!("\"{line}\\n\"\n")),
    ];
    texts.into_iter().map(|text| Case { rule: "private-key", text, secrets: body.clone() }).collect()
}

/// Lines of ordinary output without secrets, with new random values.
const ORDINARY: &[&str] = &[
    "commit {h40}\n",
    "index {h7}..{h7} 100644\n",
    "HEAD is now at {h7} Use the token cache\n",
    "Cache restored from key: Linux-node-{h64}\n",
    "sha256:{h64}: Pull complete\n",
    "  integrity sha512-{s86}==\n",
    "checksum = \"{h64}\"\n",
    "{\"type\":\"thread.started\",\"thread_id\":\"{h8}-{h4}-{h4}-{h4}-{h12}\"}\n",
    "{\"type\":\"turn.completed\",\"usage\":{\"input_tokens\":{d5},\"cached_input_tokens\":{d4},\"output_tokens\":{d3}}}\n",
    "{\"session_id\":\"{h8}-{h4}-{h4}-{h4}-{h12}\",\"uuid\":\"{h8}-{h4}-{h4}-{h4}-{h12}\"}\n",
    "{\"id\":\"toolu_{a24}\",\"name\":\"Bash\",\"input\":{\"command\":\"cargo test auth::token\"}}\n",
    "{\"id\":\"msg_{a24}\",\"type\":\"message\",\"role\":\"assistant\"}\n",
    "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"{s300}==\"}\n",
    "   Compiling regex-automata v0.4.{d2}\n",
    "test auth::tests::rejects_expired_token ... ok\n",
    "let key = cache_key(&request.path, user.id);\n",
    "fn verify_password(hash: &str, password: &str) -> Result<bool, Error> {\n",
    "    api_key: Option<String>,\n",
    "const token = await getToken(session);\n",
    "password = os.environ[\"DB_PASSWORD\"]\n",
    "self.secret_key = config.get('secret_key')\n",
    "        key={item.id}\n",
    "if (!user.passwordHash) throw new Error('missing password');\n",
    "token: ${{ secrets.GITHUB_TOKEN }}\n",
    "  password: ${DB_PASSWORD:-}\n",
    "export API_KEY=\"your-api-key-here\"\n",
    "primary_key={h32}\n",
    "ETag: \"{h32}\"\n",
    "GET /static/js/main.{h8}.chunk.js 200\n",
    "http://localhost:{d4}/src/@fs/home/ci/app/main.ts\n",
    "https://registry.npmjs.org/@types/node/-/node-20.1.{d1}.tgz\n",
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ{s200} ci@acme\n",
    "-----BEGIN CERTIFICATE-----\nMIID{s60}\n-----END CERTIFICATE-----\n",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA{s120}\n",
    "SHA256:{s43} ci@acme (ED25519)\n",
    "Docs: set the `Authorization: Bearer <token>` header.\n",
    "The password must be at least 12 characters and the token expires after 3600 seconds.\n",
    "error[E0308]: mismatched types: expected `Token`, found `Option<Token>`\n",
    "warning: unused variable: `secret_name`\n",
    "WWW-Authenticate: Basic realm=\"acme\"\n",
    "Basic authentication is disabled\n",
    "docker run -u 1000:1000 -p 8080:80 acme/app\n",
    "--password-stdin reads the password from standard input\n",
    "      --token string   token for the API\n",
    "x-request-id: {h8}-{h4}-{h4}-{h4}-{h12}\n",
    "idempotency-key: {h8}-{h4}-{h4}-{h4}-{h12}\n",
    "nextPageToken: next-page-{d3}\n",
    "\"keyId\": \"main-signing-key-2026\"\n",
    "cookie: SameSite=Lax; Path=/\n",
    "author: Kim <kim@acme.test>\n",
    "node_modules/.pnpm/@babel+core@7.{d2}.0/node_modules/@babel/core/lib/index.js\n",
    "src/auth/token_store.rs:{d3}: pub fn refresh_token(&self) -> Token {\n",
    "postgres://postgres:postgres@localhost:5432/test\n",
    "keyboard shortcut: Ctrl+Shift+P opens the command palette\n",
    "[{d2}:{d2}:{d2}] done in {d3}ms\n",
    "| key | value |\n",
    "monkey: bananas-and-figs-{d3}\n",
    "layer {h64} exists\n",
    "{\"level\":\"info\",\"msg\":\"auth ok\",\"trace_id\":\"{h32}\",\"span_id\":\"{h16}\"}\n",
    "Successfully tagged acme/app:{h12}\n",
    "build-id 0x{h16} at 0x{h12}\n",
    "pass: {d3}, fail: 0, skip: {d2}\n",
    "AUTH_MODE=oauth2\nTOKEN_TTL=3600\nSECRET_NAME=prod/db/main\n",
    "use crate::session::{SessionKey, SessionToken};\n",
];

/// Texts without secrets: every ordinary line `rounds` times.
pub fn ordinary(seed: u64, rounds: usize) -> Vec<Case> {
    let mut random = Random::new(seed);
    let mut cases = Vec::new();
    for _ in 0..rounds {
        for template in ORDINARY {
            cases.push(Case { rule: "ordinary", text: fill_ordinary(&mut random, template), secrets: Vec::new() });
        }
    }
    cases
}

/// Like [`fill`], but keeps braces that are not a template.
fn fill_ordinary(random: &mut Random, template: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let close = rest[open..].find('}').map_or(rest.len(), |at| open + at);
        let inner = rest.get(open + 1..close).unwrap_or_default();
        let is_template = inner.len() >= 2 && inner[1..].bytes().all(|b| b.is_ascii_digit());
        out.push_str(&rest[..open]);
        if is_template {
            out.push_str(&fill(random, &rest[open..=close]));
            rest = &rest[close + 1..];
        } else {
            out.push('{');
            rest = &rest[open + 1..];
        }
    }
    out + rest
}
