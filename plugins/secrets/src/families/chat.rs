//! Chat and mail.

use crate::spec::{Spec, named, shape, token};

pub(super) fn rules() -> Vec<Spec> {
    vec![
        token("slack-bot-token", "Slack bot token", r"xoxb-[A-Za-z0-9\-]{24,}", &["xoxb-"]),
        token("slack-user-token", "Slack user token", r"xox[pe]-[A-Za-z0-9\-]{24,}", &["xoxp-", "xoxe-"]),
        token("slack-app-token", "Slack app token", r"xapp-[0-9]-[A-Z0-9]{6,16}-[0-9]{6,16}-[A-Za-z0-9]{16,}", &["xapp-"]),
        token("slack-config-access-token", "Slack configuration token", r"xoxe\.xox[bp]-[0-9]-[A-Za-z0-9]{100,}|xoxe-[0-9]-[A-Za-z0-9]{100,}", &["xoxe"]),
        token("slack-user-token", "other Slack tokens", r"xox[aorsc]-[A-Za-z0-9\-]{10,}", &["xoxa-", "xoxo-", "xoxr-", "xoxs-", "xoxc-"]).entropy(3.0),
        token("slack-user-token", "Slack cookie", r"xoxd-[A-Za-z0-9%/+\-]{20,}", &["xoxd-"]),
        token("slack-webhook-url", "Slack webhook", r"(?:https?://)?hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{20,}", &["hooks.slack"]),
        // A bot's numeric id in base64, hence the few possible beginnings.
        token("discord-bot-token", "Discord bot token", r"(?:M[DTjz]|N[DTjz]|O[DT])[A-Za-z0-9_\-]{20,26}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27,40}", &["md", "mt", "mj", "mz", "nd", "nt", "nj", "nz", "od", "ot"]).up_to(96),
        token("discord-webhook-url", "Discord webhook", r"(?:https?://)?(?:(?:ptb|canary)\.)?discord(?:app)?\.com/api/(?:v[0-9]{1,2}/)?webhooks/[0-9]{15,21}/[A-Za-z0-9_\-]{40,}", &["discord.com/api/", "discordapp.com/api/"]),
        token("telegram-bot-api-token", "Telegram bot token", r"[0-9]{8,10}:A[A-Za-z0-9_\-]{32,36}", &[":a"]).up_to(64).inside_words().entropy(3.5),
        token("microsoft-teams-webhook", "Teams webhook", r"(?:https://)?[a-z0-9\-]{2,60}\.webhook\.office\.com/webhookb2/[a-z0-9@\-]{36,80}/IncomingWebhook/[a-z0-9]{32}/[a-z0-9\-]{36}(?:/[A-Za-z0-9_\-]{20,64})?", &["webhook.office.com"]).up_to(320),
        shape("microsoft-teams-webhook", "webhook of a Power Automate flow", r"(?:logic\.azure\.com|environment\.api\.powerplatform\.com)[:0-9]{0,6}/[!-!#-&(-;=?-~]{0,}[?&]sig=([A-Za-z0-9_\-%]{30,})", &["logic.azure.com", "environment.api.powerplatform.com"]).up_to(600),
        token("twilio-api-key", "Twilio API key", r"SK[0-9a-f]{32}", &["sk0", "sk1", "sk2", "sk3", "sk4", "sk5", "sk6", "sk7", "sk8", "sk9", "ska", "skb", "skc", "skd", "ske", "skf"]),
        named("twilio-auth-token", "Twilio auth token", "twilio", &["twilio"], "[0-9a-f]{32}"),
        shape("twilio-auth-token", "Twilio account and auth token", r"AC[0-9a-f]{32}[:,][ ]?([0-9a-f]{32})(?:[^\w]|$)", &["ac0", "ac1", "ac2", "ac3", "ac4", "ac5", "ac6", "ac7", "ac8", "ac9", "aca", "acb", "acc", "acd", "ace", "acf"]),
        named("twilio-auth-token", "auth token in hex", "auth[_-]?token", &["auth_token", "authtoken", "auth-token"], "[0-9a-f]{32}"),
        token("sendgrid-api-token", "SendGrid API key", r"SG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{32,64}", &["sg."]),
        token("sendgrid-api-token", "Brevo API key", r"xkeysib-[a-f0-9]{64}-[A-Za-z0-9]{16}", &["xkeysib-"]),
        token("mailchimp-api-key", "Mailchimp API key", r"[0-9a-f]{32}-us[0-9]{1,2}", &["-us"]).up_to(48),
        token("mailchimp-api-key", "Mandrill API key", r"md-[A-Za-z0-9_\-]{22}", &["md-"]).entropy(3.7).judged(),
        token("mailgun-private-api-token", "Mailgun key", r"(?:pub)?key-[0-9a-f]{32}", &["key-"]),
        named("mailgun-private-api-token", "Mailgun key", "mailgun|mg_api", &["mailgun", "mg_api"], "[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}|[0-9a-f]{32}"),
    ]
}
