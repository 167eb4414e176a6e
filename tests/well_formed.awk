# Is every tag of an SVG or XHTML file closed by its own name, and every & the start of an entity that XML has?
BEGIN { RS = "<"; depth = 0; bad = "" }
NR == 1 { next }
{
    split($0, part, ">"); tag = part[1]
    if (index($0, ">") == 0) { bad = "no > after <" tag; exit }
    if (tag ~ /^!/ || tag ~ /\/$/) next
    name = tag; sub(/[ \n].*/, "", name)
    if (name ~ /^\//) { if (stack[depth--] != substr(name, 2)) { bad = "unexpected <" name ">"; exit } }
    else stack[++depth] = name
}
$0 ~ /&/ && $0 !~ /&(amp|lt|gt|#[0-9]+);/ { bad = "& in " $0; exit }
END { if (bad == "" && depth) bad = "<" stack[depth] "> is not closed"; if (bad != "") { print bad; exit 1 } }
