#compdef ostler
# Completions of ostler for zsh. They ask the binary, and let zsh itself complete files and folders.
_ostler() {
    local program="${(Q)words[1]/#\~\//$HOME/}" directive line value
    local -a lines candidates
    lines=("${(@f)$("$program" __complete "$((CURRENT - 1))" -- "${(@)words[1,CURRENT]}" 2> /dev/null)}")
    directive="${lines[1]}"
    # The value of --option=value is completed alone.
    [[ ${words[CURRENT]} == --*=* ]] && compset -P '*='
    case $directive in
        files)
            _files
            return
            ;;
        folders)
            _files -/
            return
            ;;
    esac
    for line in "${(@)lines[2,-1]}"; do
        value="${line%%$'\t'*}"
        [[ -z $value ]] && continue
        [[ ${words[CURRENT]} == --*=* ]] && value="${value#*=}"
        value="${${value//\\/\\\\}//:/\\:}"
        if [[ $line == *$'\t'* ]]; then
            candidates+=("$value:${line#*$'\t'}")
        else
            candidates+=("$value")
        fi
    done
    (( $#candidates )) && _describe -V 'ostler' candidates
}
if [[ ${funcstack[1]} == _ostler ]]; then
    _ostler "$@"
else
    compdef _ostler ostler
fi
