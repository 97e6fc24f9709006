-- Removes a dead consumer from the group once nothing is pending under it.
-- Needs: lbs, group. XGROUP DELCONSUMER destroys pending entries, so the look and the removal are one step.
local function remove_if_empty(consumer)
  if #redis.call('XPENDING', lbs, group, '-', '+', 1, consumer) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', lbs, group, consumer)
  end
end
