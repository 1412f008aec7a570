# cwd: /workspace
# stdin: written by the transcript, see .stdin; the calls of the host are in .script
# env: CODEX_HOME=/home/agent/.codex
# env: FAKE_API_KEY=fake-key-123
# env: HOME=/home/agent
# env: TMPDIR=/home/agent/tmp
codex app-server --stdio -c 'model_providers.fake.base_url="http://127.0.0.1:8399/v1"' -c 'model_providers.fake.env_key="FAKE_API_KEY"' -c 'model_providers.fake.name="fake"' -c 'model_providers.fake.wire_api="responses"' -c 'model_provider="fake"' -c features.unbounded_connection_retries=false -c model_providers.fake.request_max_retries=1 -c model_providers.fake.stream_max_retries=1 -c 'projects={"/workspace"={trust_level="untrusted"},"/"={trust_level="untrusted"}}' -c 'sandbox_mode="danger-full-access"'
