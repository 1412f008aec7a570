# Completions of ostler for bash. They ask the binary, and let bash itself complete files and folders.
_ostler() {
    local count=0 i piece joined glued rest="${COMP_LINE:0:COMP_POINT}" words=() last=""
    # Bash splits words at `=` and `:`. Pieces that touch in the line are one word.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        glued=$rest
        rest="${rest#"${rest%%[![:space:]]*}"}"
        piece="${COMP_WORDS[i]}"
        [[ $i -eq $COMP_CWORD ]] && piece=$rest
        if [[ $i -gt 0 && -n $rest && $glued == "$rest" ]]; then
            words[count - 1]+=$piece
        else
            words[count]=$piece
            count=$((count + 1))
        fi
        rest="${rest#"$piece"}"
        last=$piece
    done
    joined="${words[count - 1]}"
    # What readline leaves alone: the part of the word before its last piece.
    case $last in
        = | :) last="" ;;
    esac
    local before="${joined%"$last"}"

    local program="${words[0]/#\~\//$HOME/}" directive line value listing=""
    local -a lines=()
    while IFS= read -r line; do
        lines+=("$line")
    done < <("$program" __complete "$((count - 1))" -- "${words[@]}" 2> /dev/null)
    directive="${lines[0]}"
    COMPREPLY=()
    case $directive in
        files)
            compopt -o default 2> /dev/null
            return
            ;;
        folders)
            compopt -o dirnames 2> /dev/null
            return
            ;;
    esac
    # At the second tab candidates are only listed: with their descriptions, if there are several.
    [[ $COMP_TYPE -eq 63 && ${#lines[@]} -gt 2 ]] && listing=1
    for line in "${lines[@]:1}"; do
        value="${line%%$'\t'*}"
        # A name can hold anything. What would mean something to the shell is quoted, or left out where a quotation is open.
        case $joined in
            \'*) [[ $value == *\'* ]] && continue ;;
            \"*) [[ $value == *[\"\$\`\\]* ]] && continue ;;
            *) [[ $value == *[!A-Za-z0-9_./:=@%+,-]* ]] && printf -v value '%q' "$value" ;;
        esac
        value="${value#"$before"}"
        if [[ -n $listing && $line == *$'\t'* ]]; then
            printf -v value '%s  (%s)' "$value" "${line#*$'\t'}"
        fi
        COMPREPLY+=("$value")
    done
}
complete -o nosort -F _ostler ostler 2> /dev/null || complete -F _ostler ostler
