-- Stands before the scripts that read a lease, which is the text token:version:granted_at:born, and :w behind it if somebody
-- waits for its end.
local function parse_lease(lease)
  local token, version, granted_at, born, awaited = string.match(lease, '^(%x+):(%d+):(%d+):(%d+)(:?w?)$')
  return token, tonumber(version), tonumber(granted_at), born, awaited == ':w'
end

