//! Model providers.

use crate::spec::{Spec, named, token};

pub(super) fn rules() -> Vec<Spec> {
    vec![
        token(
            "anthropic-admin-api-key",
            "Anthropic admin key",
            r"sk-ant-admin[0-9]{2}-[A-Za-z0-9_\-]{32,}",
            &["sk-ant-admin"],
        ),
        token(
            "anthropic-oauth-token",
            "Anthropic OAuth token",
            r"sk-ant-o[ra]t[0-9]{2}-[A-Za-z0-9_\-]{32,}",
            &["sk-ant-oat", "sk-ant-ort"],
        ),
        token("anthropic-api-key", "Anthropic API key", r"sk-ant-[A-Za-z0-9_\-]{32,}", &["sk-ant-"]),
        token("openrouter-api-key", "OpenRouter API key", r"sk-or-(?:v[0-9]-)?[A-Za-z0-9_\-]{32,}", &["sk-or-"]),
        token(
            "openai-api-key",
            "OpenAI API key",
            r"sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_\-]{32,}",
            &["sk-proj-", "sk-svcacct-", "sk-admin-", "sk-none-"],
        ),
        token("deepseek-api-key", "DeepSeek API key", r"sk-[0-9a-f]{32}", &["sk-"]),
        token("openai-api-key", "OpenAI API key", r"sk-[A-Za-z0-9]{16,64}(?:T3BlbkFJ[A-Za-z0-9]{16,64})?", &["sk-"])
            .entropy(3.4),
        token(
            "huggingface-access-token",
            "Hugging Face token",
            r"(?:hf_|api_org_)[A-Za-z0-9]{30,64}",
            &["hf_", "api_org_"],
        )
        .entropy(3.2),
        token("groq-api-key", "Groq API key", r"gsk_[A-Za-z0-9]{40,80}", &["gsk_"]),
        token("perplexity-api-key", "Perplexity API key", r"pplx-[A-Za-z0-9]{32,80}", &["pplx-"]),
        token("xai-api-key", "xAI API key", r"xai-[A-Za-z0-9_\-]{60,}", &["xai-"]),
        token("replicate-api-token", "Replicate API token", r"r8_[A-Za-z0-9]{32,64}", &["r8_"]),
        token(
            "langsmith-api-key",
            "LangSmith API key",
            r"ls(?:v2_(?:pt|sk)_|__)[A-Za-z0-9_]{32,64}",
            &["lsv2_pt_", "lsv2_sk_", "ls__"],
        ),
        named("deepseek-api-key", "DeepSeek API key", "deepseek", &["deepseek"], r"sk-[A-Za-z0-9]{32,64}"),
        named("cohere-api-token", "Cohere API key", "cohere|co_api_key", &["cohere", "co_api_key"], "[A-Za-z0-9]{40}")
            .judged(),
        named("mistral-api-key", "Mistral API key", "mistral", &["mistral"], "[A-Za-z0-9]{32}").judged(),
        named(
            "langsmith-api-key",
            "LangSmith API key",
            "lang(?:smith|chain)",
            &["langsmith", "langchain"],
            "[A-Za-z0-9_]{36,64}",
        )
        .judged(),
    ]
}
