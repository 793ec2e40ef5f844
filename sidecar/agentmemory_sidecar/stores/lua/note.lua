-- ARGV: note, most notes, ttl_ms
add_note(ARGV[1], ARGV[2], ARGV[3])
return 1
