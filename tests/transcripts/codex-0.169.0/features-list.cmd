# cwd: /workspace
# stdin: /dev/null
# env: CODEX_HOME=/home/agent/.codex
# env: HOME=/home/agent
# env: TMPDIR=/home/agent/tmp
codex features list
