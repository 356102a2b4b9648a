-- Stands before the scripts that read a lease, which is the text token:version:granted_at:born.
local function parse_lease(lease)
  local token, version, granted_at, born = string.match(lease, '^(%x+):(%d+):(%d+):(%d+)$')
  return token, tonumber(version), tonumber(granted_at), born
end

