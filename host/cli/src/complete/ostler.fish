# Completions of ostler for fish. They ask the binary, and let fish itself complete files and folders.
function __ostler_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l program (string replace --regex '^~/' "$HOME/" -- $words[1])
    set -l lines ($program __complete (count $words) -- $words "$current" 2>/dev/null)
    # A candidate for --option=value is the whole word.
    set -l option (string match --regex -- '^--[^=]+=' $current)
    set -l value (string replace --regex -- '^--[^=]+=' '' "$current")
    switch "$lines[1]"
        case files
            for path in (__fish_complete_path "$value")
                echo "$option$path"
            end
        case folders
            for path in (__fish_complete_directories "$value" '')
                echo "$option$path"
            end
        case '*'
            for line in $lines[2..-1]
                echo $line
            end
    end
end
complete --command ostler --no-files --keep-order --arguments '(__ostler_complete)'
