# cwd: /workspace
# stdin: piped text: "/help"
# env: ANTHROPIC_API_KEY=fake-key-123
# env: ANTHROPIC_BASE_URL=http://127.0.0.1:8399
claude -p --output-format stream-json --verbose --include-partial-messages
