# cwd: /workspace
# stdin: RUN touch made
# env: ANTHROPIC_API_KEY=fake-key-123
# env: ANTHROPIC_BASE_URL=http://127.0.0.1:8399
# env: CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1
# env: CLAUDE_CODE_MAX_RETRIES=0
# env: CLAUDE_CONFIG_DIR=/home/agent/.claude
# env: DISABLE_AUTOUPDATER=1
# env: DISABLE_ERROR_REPORTING=1
# env: DISABLE_TELEMETRY=1
# env: HOME=/home/agent
# env: IS_SANDBOX=1
# env: TMPDIR=/home/agent/tmp
claude -p --output-format stream-json --verbose --include-partial-messages --permission-mode=dontAsk
